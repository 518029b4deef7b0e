//! `leaseboot-po image`: the boot images. Adding needs no daemon; removing asks it who still needs the image, or reads its store when it does not run.

use super::{ConfigArg, block_on};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use leaseboot_po::borrowing::Order;
use leaseboot_po::config::{Content, Image, PoConfig};
use leaseboot_po::control::client::ClientError;
use leaseboot_po::error_chain;
use leaseboot_po::images::disk::{self, DiskRecord, WantedDisk};
use leaseboot_po::images::intake::{self, Added, Signatures, Wanted};
use leaseboot_po::images::record::{self, Record, VerifyError};
use leaseboot_po::images::shelf::{self, Listed};
use leaseboot_po::images::signature::Kind;
use leaseboot_po::store::Store;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Boot images: add, list, verify, remove
#[derive(Args)]
pub(crate) struct ImageCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(Box<Add>),
    List(List),
    Verify(Verify),
    Remove(Remove),
}

/// Copy an installer's kernel and initrd here, or a whole disk, and find out what they can do
#[derive(Args)]
struct Add {
    #[command(flatten)]
    config: ConfigArg,
    /// The image's name, which profiles give as `image`.
    name: String,
    /// A whole disk instead of an installer: raw, or raw behind zstd. It is written to the server's disk.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "initrd", "command_line", "modules", "anyway"])]
    disk: Option<PathBuf>,
    /// The maker's signature of the disk image, which is behind zstd.
    #[arg(long, value_name = "FILE", requires = "public_key", requires = "disk")]
    disk_signature: Option<PathBuf>,
    /// The machine that the disk image is built for, as `uname -m` names it; of a kernel it is found out.
    #[arg(long, value_name = "MACHINE", requires = "disk")]
    architecture: Option<String>,
    /// The kernel, such as vmlinuz.
    #[arg(long, value_name = "FILE", required_unless_present = "disk")]
    kernel: Option<PathBuf>,
    /// The initrd.
    #[arg(long, value_name = "FILE", required_unless_present = "disk")]
    initrd: Option<PathBuf>,
    /// The command line that the image's makers want, without what leaseboot adds.
    #[arg(long, value_name = "WORDS", required_unless_present = "disk")]
    command_line: Option<String>,
    /// A cpio archive with further modules, such as tun, and new lists of all; it goes behind the initrd.
    #[arg(long, value_name = "FILE")]
    modules: Option<PathBuf>,
    /// Memory that the installer needs, in MiB; an estimate without it.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// The maker's signature of the kernel.
    #[arg(
        long,
        value_name = "FILE",
        requires = "public_key",
        requires = "initrd_signature"
    )]
    kernel_signature: Option<PathBuf>,
    /// The maker's signature of the initrd.
    #[arg(long, value_name = "FILE", requires = "kernel_signature")]
    initrd_signature: Option<PathBuf>,
    /// The maker's public key: minisign's .pub file, or ed25519 in PEM.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Add it although this version cannot use it.
    #[arg(long)]
    anyway: bool,
}

/// Show the images
#[derive(Args)]
struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// As JSON: what was found out about each.
    #[arg(long)]
    json: bool,
}

/// Check digests and signatures of the images
#[derive(Args)]
struct Verify {
    #[command(flatten)]
    config: ConfigArg,
    /// Those to check; all of them if none is named.
    names: Vec<String>,
    /// A key from elsewhere, instead of the one that was kept with the image.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
}

/// Remove an image that no borrowing needs
#[derive(Args)]
struct Remove {
    #[command(flatten)]
    config: ConfigArg,
    /// The image.
    name: String,
}

impl ImageCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Add(add) => add.run(),
            Command::List(list) => list.run(),
            Command::Verify(verify) => verify.run(),
            Command::Remove(remove) => remove.run(),
        }
    }
}

fn images(config: &PoConfig) -> PathBuf {
    config.folder.join("images")
}

impl Add {
    fn run(mut self) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        if let Some(disk) = self.disk.take() {
            return self.add_disk(&config, disk);
        }
        let (Some(kernel), Some(initrd), Some(command_line)) = (self.kernel, self.initrd, self.command_line)
        else {
            bail!("an image is --kernel, --initrd and --command-line, or --disk");
        };
        let signatures = match (self.kernel_signature, self.initrd_signature, self.public_key) {
            (Some(kernel), Some(initrd), Some(public_key)) => Some(Signatures {
                kernel,
                initrd,
                public_key,
            }),
            _ => None,
        };
        let wanted = Wanted {
            name: self.name,
            kernel,
            initrd,
            modules: self.modules,
            command_line,
            min_memory_mib: self.memory,
            signatures,
            anyway: self.anyway,
        };
        let added = intake::add(&images(&config), &wanted)?;
        tell(&added);
        println!("image {} is added", wanted.name);
        Ok(ExitCode::SUCCESS)
    }

    fn add_disk(self, config: &PoConfig, disk: PathBuf) -> anyhow::Result<ExitCode> {
        let wanted = WantedDisk {
            name: self.name,
            disk,
            architecture: self.architecture,
            min_memory_mib: self.memory,
            signature: self.disk_signature.zip(self.public_key),
        };
        let record = disk::add(&images(config), &wanted)?;
        println!("disk: {}", about_disk(&record));
        println!("profiles for it need no installer; their user_data, if any, is cloud-init's");
        println!("image {} is added", wanted.name);
        Ok(ExitCode::SUCCESS)
    }
}

/// What was found out.
fn tell(added: &Added) {
    let Record {
        found_kernel,
        found_initrd,
        signed,
        ..
    } = &added.record;
    println!("kernel: {found_kernel}");
    let parts: Vec<_> = found_initrd
        .parts
        .iter()
        .map(|part| {
            let kind = if part.microcode { " (early microcode)" } else { "" };
            format!("{}{kind}", part.compression)
        })
        .collect();
    println!(
        "initrd: {}; {}; {} MiB unpacked",
        parts.join(" + "),
        found_initrd.kind,
        found_initrd.unpacked >> 20
    );
    println!(
        "memory: a server needs {} MiB (min_memory_mib in image.toml)",
        added.min_memory_mib
    );
    match signed {
        Some(kind) => println!("signature: good ({kind})"),
        None => println!("signature: none was given"),
    }
    println!("{}", added.ways);
    if let Some(installer) = added.ways.installer {
        println!("profiles for it have installer = {installer:?}");
    }
    for obstacle in &added.ways.obstacles {
        println!("not supported: {obstacle}");
    }
}

fn about_disk(record: &DiskRecord) -> String {
    format!(
        "{} MiB, {} MiB through the tunnel; {} partitions; {}",
        record.size >> 20,
        record.stream.size >> 20,
        record.partitions,
        record
            .signed
            .map_or("not signed".to_owned(), |kind| format!("signed ({kind})"))
    )
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let listed = shelf::list(&images(&self.config.load()?))?;
        if self.json {
            let entries: Vec<_> = listed.iter().map(json).collect();
            println!("{}", serde_json::to_string_pretty(&entries)?);
            return Ok(ExitCode::SUCCESS);
        }
        for image in &listed {
            println!("{}", line(image));
        }
        if listed.is_empty() {
            println!("there are no images; `leaseboot-po image add` makes one");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn json(listed: &Listed) -> serde_json::Value {
    let record = listed.record.as_ref().ok().and_then(Option::as_ref);
    let image = listed.image.as_ref();
    serde_json::json!({
        "name": listed.name,
        "command_line": image.ok().and_then(|image| image.command_line()),
        "disk": image.ok().and_then(|image| match &image.content {
            Content::Disk(record) => Some(record),
            Content::Installer { .. } => None,
        }),
        "min_memory_mib": image.map(|image| image.min_memory_mib).ok(),
        "error": image.err().map(|error| error_chain(error)),
        "record": record,
    })
}

fn line(listed: &Listed) -> String {
    let told = match (&listed.image, &listed.record) {
        (Err(error), _) => format!("cannot be used: {}", error_chain(error)),
        (_, Err(error)) => format!("cannot be used: {}", error_chain(error)),
        (
            Ok(Image {
                content: Content::Disk(record),
                ..
            }),
            _,
        ) => format!("disk image; {}", about_disk(record)),
        (Ok(_), Ok(None)) => "made by hand: nothing is known of it".to_owned(),
        (Ok(image), Ok(Some(record))) => format!(
            "{}; Linux {}; data plane {}; {} MiB of memory; {}",
            record.found_initrd.kind,
            record
                .found_kernel
                .release
                .as_deref()
                .unwrap_or("of unknown version"),
            record
                .plane
                .map_or("not there".to_owned(), |plane| plane.to_string()),
            image.min_memory_mib,
            record
                .signed
                .map_or("not signed".to_owned(), |kind| format!("signed ({kind})")),
        ),
    };
    format!("{}: {told}", listed.name)
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let images = images(&self.config.load()?);
        let names = match self.names.is_empty() {
            true => shelf::names(&images)?,
            false => self.names,
        };
        let mut code = ExitCode::SUCCESS;
        for name in names {
            if !shelf::is_name(&name) || !images.join(&name).is_dir() {
                bail!("there is no image {name:?}; `leaseboot-po image list` shows them");
            }
            match verify(&images.join(&name), self.public_key.as_deref()) {
                Ok(signed) => {
                    let signed =
                        signed.map_or("not signed".to_owned(), |kind| format!("signature good ({kind})"));
                    println!("{name}: as it was added; {signed}");
                }
                Err(error) => {
                    eprintln!("leaseboot-po: {name}: {}", error_chain(&error));
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

fn verify(folder: &Path, trusted: Option<&Path>) -> Result<Option<Kind>, VerifyError> {
    match Image::load(folder) {
        Ok(Image {
            content: Content::Disk(_),
            ..
        }) => disk::verify(folder, trusted).map(|record| record.signed),
        _ => record::verify(folder, trusted).map(|record| record.signed),
    }
}

impl Remove {
    fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        let folder = images(&config).join(&self.name);
        let users = block_on(users(&self.config, &config, &folder))?;
        shelf::remove(&images(&config), &self.name, &users)?;
        println!("image {} is removed", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

/// The borrowings that are not over and were ordered with the image in `folder`.
async fn users(argument: &ConfigArg, config: &PoConfig, folder: &Path) -> anyhow::Result<Vec<String>> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    match argument.client()?.list().await {
        Ok(views) => {
            // A daemon of before does not tell: then every server may need it.
            let needs = |image: &Option<String>| image.is_none() || *image == name;
            let users = views.iter().filter(|view| !view.over && needs(&view.image));
            Ok(users.map(|view| view.hostname.to_string()).collect())
        }
        Err(ClientError::NoDaemon { .. }) => {
            let path = config.folder.join("po.sqlite");
            if !path.exists() {
                return Ok(Vec::new());
            }
            let store = Store::open(&path).await?;
            let records = store.all().await.context("cannot find out who needs the image")?;
            let users = records
                .iter()
                .filter(|record| !record.state.is_over() && record.order.image() == name);
            Ok(users.map(|record| hostname(&record.order)).collect())
        }
        Err(error) => Err(error).context("cannot find out who needs the image"),
    }
}

fn hostname(order: &Order) -> String {
    order.settings.hostname.to_string()
}
