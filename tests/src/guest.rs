//! A guest without disk and network card: a stock kernel with some of its modules, some of this host's programs, and a script as its init.
//!
//! It is for what this host's kernel cannot do, such as WireGuard. What is to be found out is found out inside, between namespaces of the guest; the serial line tells how it went.

use crate::folders::Folders;
use crate::namespace::checked;
use crate::transcript::Transcript;
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::archive::Archive;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// The last line of every guest whose script came to its end.
pub const ALL_WELL: &str = "guest: all well";
/// The line of a guest whose script failed.
const FAILED: &str = "guest: FAILED";

const INIT: &str = r#"#!/programs/busybox sh
bb=/programs/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /bin
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
$bb mount -t tmpfs run /run
$bb mount -t tmpfs tmp /tmp
$bb --install -s /bin
export PATH=/bin
for module in $(cat /modules); do insmod $module || echo "guest: cannot load $module"; done
ip link set lo up
sh -eu /script && echo "guest: all well" || echo "guest: FAILED"
exec poweroff -f
"#;

/// What a guest is made of.
pub struct Guest<'a> {
    /// Its name, for files and errors.
    pub name: &'a str,
    /// Modules by name; what they need comes with them.
    pub modules: &'a [&'a str],
    /// Programs of this host, which lie in `/programs` there, with the libraries that they are linked to. The script calls them by their names.
    pub programs: &'a [PathBuf],
    /// Further files by their paths.
    pub files: &'a [(String, Vec<u8>)],
    /// A script of busybox's shell, which stops at the first command that fails.
    pub script: &'a str,
    /// Cores.
    pub cores: u32,
}

/// A guest that runs; dropping it ends it.
pub struct Running {
    serial: Transcript,
    _process: Child,
    _files: tempfile::TempDir,
}

impl Guest<'_> {
    /// Switches it on. The serial line is kept in `folder`.
    pub async fn start(&self, folders: &Folders, folder: &Path) -> Result<Running> {
        let files = tempfile::tempdir().context("cannot make a folder")?;
        let initrd = files.path().join("initrd");
        let archive = self.archive(folders).await?;
        std::fs::write(&initrd, archive).context("cannot write the guest's archive")?;
        let log = folder.join(format!("{}.serial.log", self.name));
        let serial = Transcript::new(self.name, &log, &["Kernel panic", FAILED])?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            // As the bare servers: the same with and without KVM, and emulated AVX is slower than what it replaces.
            .args(["-machine", "pc", "-accel", "tcg,thread=multi"])
            .args([
                "-cpu",
                "max,-avx,-avx2",
                "-m",
                "1024",
                "-smp",
                &self.cores.to_string(),
            ])
            .args(["-device", "virtio-rng-pci", "-serial", "stdio"])
            .arg("-kernel")
            .arg(folders.image().join("vmlinuz"))
            .arg("-initrd")
            .arg(&initrd)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command
            .spawn()
            .context("cannot start qemu-system-x86_64 (package qemu-system-x86)")?;
        let out = process.stdout.take().context("QEMU has no standard output")?;
        tokio::spawn(serial.clone().follow(out));
        Ok(Running {
            serial,
            _process: process,
            _files: files,
        })
    }

    /// Busybox's shell prefers its own applets to programs of the same name, and functions to both.
    fn functions(&self) -> String {
        let names = self.programs.iter().filter_map(|program| program.file_name());
        let function = |name: &OsStr| {
            let name = name.to_string_lossy();
            format!("{name}() {{ /programs/{name} \"$@\"; }}\n")
        };
        names.map(function).collect()
    }

    async fn archive(&self, folders: &Folders) -> Result<Vec<u8>> {
        let mut archive = Archive::new();
        let mut present = BTreeSet::new();
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from);
        let busybox = busybox.iter().find(|path| path.is_file());
        let busybox = busybox.context("there is no busybox (package busybox-static)")?;
        for program in self.programs.iter().chain([busybox]) {
            let name = program.file_name().context("a program has no name")?;
            add(
                &mut archive,
                &mut present,
                program,
                &Path::new("programs").join(name),
            )?;
            for library in libraries(program).await? {
                let place = library.strip_prefix("/").unwrap_or(&library).to_owned();
                add(&mut archive, &mut present, &library, &place)?;
            }
        }
        let mut load = String::new();
        for module in modules(folders, self.modules)? {
            let name = module.file_name().context("a module has no name")?;
            let place = Path::new("lib/modules").join(name);
            load.push_str(&format!("/{}\n", place.display()));
            add(&mut archive, &mut present, &module, &place)?;
        }
        for (path, content) in self.files {
            archive.file(path, 0o600, content.clone())?;
        }
        archive.file("modules", 0o644, load)?;
        archive.file("script", 0o644, format!("{}{}", self.functions(), self.script))?;
        archive.file("init", 0o755, INIT)?;
        Ok(archive.to_bytes())
    }
}

impl Running {
    /// What its serial line says.
    pub fn serial(&self) -> &Transcript {
        &self.serial
    }

    /// Waits until its script has come to its end.
    pub async fn comes_to_its_end(&self, within: Duration) -> Result<()> {
        self.serial.wait_for(ALL_WELL, within).await.map(drop)
    }
}

fn add(archive: &mut Archive, present: &mut BTreeSet<PathBuf>, file: &Path, place: &Path) -> Result<()> {
    if present.insert(place.to_owned()) {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        archive.file(&place.display().to_string(), 0o755, bytes)?;
    }
    Ok(())
}

/// What ldd(1) says that a program is linked to; nothing for a static one.
async fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .await
        .context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).filter(|path| path != program).collect())
}

/// The files of modules and of all that they need, in the order in which they are to be loaded. Built-in ones have no file.
fn modules(folders: &Folders, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let tree = module_tree(folders)?;
    let order = std::fs::read_to_string(tree.join("modules.dep"))
        .with_context(|| format!("cannot read modules.dep in {}", tree.display()))?;
    let mut files = Vec::new();
    for name in wanted {
        let stem = |path: &str| Path::new(path).file_stem().is_some_and(|stem| stem == *name);
        let line = order
            .lines()
            .find_map(|line| line.split_once(':').filter(|(module, _)| stem(module)));
        let (module, needs) = line.with_context(|| format!("this kernel has no module {name}"))?;
        // modules.dep(5): what is needed by everything else stands last.
        let mut needed: Vec<_> = needs.split_whitespace().rev().collect();
        needed.push(module);
        for file in needed.into_iter().map(|file| tree.join(file)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// The kernel package that stage 1 was built from, as `cargo xtask image` unpacked it.
fn module_tree(folders: &Folders) -> Result<PathBuf> {
    let packages = folders.cache().join("packages");
    let mut trees: Vec<_> = std::fs::read_dir(&packages)
        .with_context(|| format!("cannot list {}", packages.display()))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("linux-image-"))
        .flat_map(|entry| std::fs::read_dir(entry.path().join("lib/modules")))
        .flat_map(|trees| trees.flatten().map(|tree| tree.path()))
        .collect();
    trees.sort();
    let release = kernel_release(&folders.image().join("vmlinuz"))?;
    let tree = trees.into_iter().find(|tree| tree.ends_with(&release));
    tree.with_context(|| format!("there are no modules of {release}: run cargo xtask image"))
}

/// The release that a kernel says it is: x86 boot protocol, offset 0x20e points at the text.
fn kernel_release(kernel: &Path) -> Result<String> {
    let bytes = std::fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let at = bytes.get(0x20e..0x210).context("the kernel is too short")?;
    let at = usize::from(u16::from_le_bytes([at[0], at[1]])) + 0x200;
    let text = bytes.get(at..).context("the kernel has no version")?;
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(0);
    ensure!((1..100).contains(&end), "the kernel's version is no text");
    Ok(String::from_utf8_lossy(&text[..end]).into_owned())
}

/// The path of a program of this host, as the shell finds it.
pub async fn host_program(name: &str) -> Result<PathBuf> {
    let script = format!("command -v {name}");
    let path = checked(Command::new("sh").args(["-c", &script]))
        .await
        .with_context(|| format!("there is no {name} on this host"))?;
    std::fs::canonicalize(path.trim()).with_context(|| format!("cannot resolve {name}"))
}
