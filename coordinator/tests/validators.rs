//! What comes out of a merge is valid by the word of programs that nobody here wrote: pykickstart's `ksvalidator` for every version that a
//! merge knows, debconf's `debconf-set-selections`, and cloud-init's own schema for what surrounds an autoinstall text.
//!
//! Subiquity's schema of autoinstall itself is in no package of Debian or of the Python package index (looked for in 2026), so what is
//! inside `autoinstall` is checked by nobody but us.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "facts/mod.rs"]
mod facts;
#[path = "python/mod.rs"]
mod python;

use facts::{Facts, settings};
use leaseboot_protocol::installer::{Installer, KickstartSyntax};
use std::path::Path;
use std::process::{Command, Output};

const PYKICKSTART: &str = "pykickstart==3.78";
/// What Debian's cloud-init imports.
const CLOUD_INIT_NEEDS: [&str; 7] = [
    "configobj==5.0.9",
    "jinja2==3.1.6",
    "jsonpatch==1.33",
    "jsonschema==4.17.3",
    "oauthlib==3.2.2",
    "pyyaml==6.0.2",
    "requests==2.32.3",
];
const PRESEED: &str = include_str!("profiles/web.preseed");
const AUTOINSTALLS: [&str; 2] = [
    include_str!("profiles/web-autoinstall.yaml"),
    include_str!("profiles/disk-autoinstall.yaml"),
];

const KICKSTARTS: [(&str, &str); 3] = [
    (
        "the laboratory's",
        include_str!("../../tests/installer/example.ks"),
    ),
    (
        "a short one",
        "text\nlang en_US.UTF-8\nkeyboard us\ntimezone UTC --utc\nrootpw --lock\nautopart\n",
    ),
    (
        "one with a boot loader, volumes and scripts",
        r#"text
lang en_US.UTF-8
keyboard us
timezone Europe/Berlin
rootpw --iscrypted @sealed:root_password@
url --url=http://172.20.0.2/rocky
bootloader --timeout=1 --append="quiet audit=1"   # fast
part /boot --fstype=xfs --size=1024
part pv.01 --size=4096 --grow
volgroup system pv.01
logvol / --vgname=system --name=root --size=3072 --fstype=xfs
user --name=ops --groups=wheel --password=@sealed:root_password@ --iscrypted
reboot
%pre --interpreter=/bin/bash
echo %packages is only a word here
%end
%packages
@^minimal-environment
%end
%addon com_redhat_kdump --disable
%end
%post
echo done
%end
"#,
    ),
];

fn merged(installer: Installer, text: &str, console: Option<&str>) -> String {
    match Facts::new(console).merge(&settings(installer, text)) {
        Ok(merged) => merged.kickstart,
        Err(problems) => panic!("{installer}: {problems:#?}"),
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// One interpreter looks at all texts: starting Python for each of the 132 would take longer than all the looking.
const VALIDATE: &str = r#"
import sys, warnings
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion
warnings.simplefilter("ignore")
for line in sys.stdin:
    version, path = line.split()
    try:
        KickstartParser(makeVersion(version)).readKickstart(path)
    except Exception as error:
        print(version, path, error)
"#;

#[test]
fn kickstarts_are_valid_in_every_version() {
    let programs = python::environment("pykickstart-3.78", &[PYKICKSTART]);
    let folder = tempfile::tempdir().unwrap();
    let mut list = String::new();
    for syntax in KickstartSyntax::all() {
        for console in [None, Some("ttyS0,115200")] {
            for (index, (_, text)) in KICKSTARTS.iter().enumerate() {
                // Options of %packages that were renamed between the versions; the merge does not look into sections.
                let text = text
                    .replace(" --inst-langs=", "")
                    .replace(" --exclude-weakdeps", "");
                let text = merged(Installer::Kickstart { syntax }, &text, console);
                let path = folder
                    .path()
                    .join(format!("{syntax}-{index}-{}.ks", console.is_some()));
                std::fs::write(&path, text).unwrap();
                list += &format!("{syntax} {}\n", path.display());
            }
        }
    }
    let stdin = folder.path().join("list");
    std::fs::write(&stdin, &list).unwrap();
    let said = Command::new(programs.join("python"))
        .args(["-c", VALIDATE])
        .stdin(std::fs::File::open(&stdin).unwrap())
        .output()
        .unwrap();
    assert_eq!(list.lines().count(), 22 * 2 * 3);
    assert!(
        said.status.success() && words(&said).is_empty(),
        "{}",
        words(&said)
    );
    // The program that people run says the same of one of them.
    let one = folder.path().join("RHEL9-2-true.ks");
    let said = Command::new(programs.join("ksvalidator"))
        .args(["-v", "RHEL9"])
        .arg(&one)
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", words(&said));
}

/// The table of versions says what pykickstart says, command by command.
#[test]
fn what_we_refuse_of_a_version_pykickstart_refuses_too_and_no_more() {
    const ASK: &str = r#"
import warnings
from pykickstart.base import RemovedCommand
from pykickstart.version import returnClassForVersion
warnings.simplefilter("ignore")
import sys
for version in sys.argv[1:]:
    commands = returnClassForVersion(version)().commands
    print(version, *sorted(n for n, c in commands.items() if c is not None and not isinstance(c, RemovedCommand)))
"#;
    let programs = python::environment("pykickstart-3.78", &[PYKICKSTART]);
    let versions: Vec<_> = KickstartSyntax::all().map(|syntax| syntax.to_string()).collect();
    let said = python::run(
        Command::new(programs.join("python"))
            .args(["-c", ASK])
            .args(&versions),
        "pykickstart",
    );
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), versions.len());
    let all: std::collections::BTreeSet<&str> = lines.iter().flat_map(|line| &line[1..]).copied().collect();
    for line in &lines {
        let syntax: KickstartSyntax = line[0].parse().unwrap();
        // `method` is pykickstart's own name for cdrom, url and their like; `upgrade` never leads to an installation.
        for command in all
            .iter()
            .filter(|command| !matches!(**command, "method" | "upgrade"))
        {
            let text = format!("part / --size=1000\n{command}\n");
            let problems = Facts::new(None)
                .merge(&settings(Installer::Kickstart { syntax }, &text))
                .err()
                .unwrap_or_default();
            let refused = problems.iter().any(|problem| {
                problem.message.contains("known to")
                    || problem.message.contains("was removed")
                    || problem.message.contains("no kickstart command")
            });
            assert_eq!(
                refused,
                !line[1..].contains(command),
                "{syntax}: {command}: {problems:#?}"
            );
        }
    }
}

#[test]
fn preseeds_are_valid_by_debconf() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let path = folder.path().join("preseed.cfg");
        std::fs::write(&path, text).unwrap();
        let said = Command::new("debconf-set-selections")
            .arg("--checkonly")
            .arg(&path)
            .output()
            .unwrap();
        // It ends with 0 on unknown types and says so on standard error only.
        (said.status.success(), words(&said))
    };
    for console in [None, Some("ttyS0,115200")] {
        let (success, said) = check(&merged(Installer::Preseed {}, PRESEED, console));
        assert!(success && said.is_empty(), "{said}");
    }
    assert!(
        !check("d-i a/b strange c\n").1.is_empty(),
        "debconf no longer tells what is wrong"
    );
}

#[test]
fn autoinstall_texts_are_valid_user_data_by_cloud_init() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let path = folder.path().join("user-data");
        std::fs::write(&path, text).unwrap();
        let said = cloud_init(&path);
        (said.status.success(), words(&said))
    };
    for text in AUTOINSTALLS {
        let (success, said) = check(&merged(Installer::Autoinstall {}, text, Some("ttyS0,115200")));
        assert!(success, "{said}");
    }
    let (success, said) = check("#cloud-config\nruncmd: {a: 1}\n");
    assert!(!success, "cloud-init no longer tells what is wrong: {said}");
}

/// Unpacked and not installed: an installed cloud-init would take the host for a cloud's machine at its next boot.
fn cloud_init(file: &Path) -> Output {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cloud-init");
    std::fs::create_dir_all(&place).unwrap();
    let lock = std::fs::File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    if !place.join("root/usr/bin/cloud-init").exists() {
        let advice = "Debian's archive is needed once";
        python::run(
            Command::new("apt-get")
                .args(["download", "cloud-init"])
                .current_dir(&place),
            advice,
        );
        let package = std::fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .unwrap();
        python::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(package)
                .arg(place.join("root")),
            advice,
        );
    }
    let programs = python::environment("cloud-init-needs", &CLOUD_INIT_NEEDS);
    Command::new(programs.join("python"))
        .env("PYTHONPATH", place.join("root/usr/lib/python3/dist-packages"))
        .args(["-m", "cloudinit.cmd.main", "schema", "-c"])
        .arg(file)
        .output()
        .unwrap()
}
