//! What the enterprise has: a package repository and a boot image. Made by the scripts in `tests/installer/`, which know by
//! themselves whether something has changed; kept between runs.

use crate::folders::Folders;
use crate::namespace::{Service, checked};
use crate::network::{Network, REPOSITORY_ADDRESS};
use anyhow::{Context as _, Result, ensure};
use axum::Router;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::process::Command;
use tower_http::services::ServeDir;

/// The enterprise's files.
#[derive(Clone, Debug)]
pub struct Assets {
    repository: PathBuf,
    boot_image: PathBuf,
}

impl Assets {
    /// Those that were made before.
    pub fn find(folders: &Folders) -> Result<Self> {
        let assets = Self::places(folders);
        ensure!(
            assets.repository.is_dir() && assets.boot_image.join("initrd.img").is_file(),
            "the enterprise's packages and boot image are not in {}: `cargo xtask test` and `cargo xtask demo` make them",
            folders.assets().display()
        );
        Ok(assets)
    }

    /// Makes what is missing or out of date. Takes minutes the first time.
    pub async fn make(folders: &Folders) -> Result<Self> {
        let assets = Self::places(folders);
        for (script, place) in [
            ("build-repository", &assets.repository),
            ("build-boot-image", &assets.boot_image),
        ] {
            let mut command = Command::new(folders.sources().join("installer").join(script));
            command.arg(place);
            let status = command.status().await;
            let status = status.with_context(|| format!("cannot run tests/installer/{script}"))?;
            ensure!(
                status.success(),
                "tests/installer/{script} ended with {status}; its own words are above"
            );
        }
        Ok(assets)
    }

    fn places(folders: &Folders) -> Self {
        Self {
            repository: folders.assets().join("debian"),
            boot_image: folders.assets().join("boot-image"),
        }
    }

    /// The enterprise's kernel.
    pub fn kernel(&self) -> PathBuf {
        self.boot_image.join("vmlinuz")
    }

    /// The enterprise's initrd.
    pub fn initrd(&self) -> PathBuf {
        self.boot_image.join("initrd.img")
    }

    /// Serves the packages inside the enterprise, as the kickstart's `url` line expects: `http://172.20.0.2/debian`.
    pub async fn serve_repository(&self, network: &Network) -> Result<Service> {
        let repository = self.repository.clone();
        let start = move || async move {
            let listener = TcpListener::bind((REPOSITORY_ADDRESS, 80)).await?;
            let files = Router::new().nest_service("/debian", ServeDir::new(repository));
            // Failures of single connections are not ours: the installer sees and reports them.
            Ok(((), async move { drop(axum::serve(listener, files).await) }))
        };
        let (service, ()) = network.repo.serve("packages", start).await?;
        Ok(service)
    }
}

/// Changes one bit in the middle of a file of the enterprise.
pub fn flip_a_byte(path: &Path) -> Result<()> {
    let failed = || format!("cannot change {}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(failed)?;
    let middle = file.metadata().with_context(failed)?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).with_context(failed)?;
    file.write_all_at(&[byte[0] ^ 1], middle).with_context(failed)
}

/// An initrd in its parts and compressions, packed by the programs that distributions use.
pub async fn compress(program: &[&str], bytes: &[u8]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed"));
    std::fs::write(&plain, bytes).context("cannot write the plain bytes")?;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"plain=$1; packed=$2; shift 2; exec "$@" < "$plain" > "$packed""#,
        "sh",
    ]);
    command.arg(&plain).arg(&packed).args(program);
    checked(&mut command).await?;
    std::fs::read(&packed).context("cannot read the packed bytes")
}
