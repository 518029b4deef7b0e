//! What HTTP and TFTP serve alike: boot files, scripts rendered at request, and the site archive of one boot.

use super::files::{BootFiles, BootFilesError, KERNEL, STAGE1};
use super::plan::{BootDirectory, BootError, BootPlan, Drivers, SiteArchiveId};
use super::script::{self, RenderError, Stage1Places};
use super::script_path::ScriptPath;
use crate::tftp::TftpNames;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use leaseboot_protocol::BOOT_FACTS_PATH;
use leaseboot_protocol::agent::BootFacts;
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::archive::{Archive, ArchiveError};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// How long a site archive can be fetched again by the address that fetched it first: boot loaders ask twice when a connection breaks.
const ARCHIVE_TIME: Duration = Duration::from_secs(120);
/// Site archives that are remembered at once.
const MOST_ARCHIVES: usize = 256;

/// The boot files and the directory behind them.
pub struct BootService {
    files: BootFiles,
    directory: Arc<dyn BootDirectory>,
    /// Where this service is, for loaders.
    host: String,
    /// Where the whole of stage 1 is.
    places: BTreeMap<Architecture, Stage1Places>,
    /// Where this service is for who asks by IPv6, where the LM speaks it.
    http6: Option<SocketAddr>,
    archives: Mutex<VecDeque<RenderedArchive>>,
}

struct RenderedArchive {
    id: SiteArchiveId,
    from: IpAddr,
    until: Instant,
    bytes: Bytes,
}

/// A site archive cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The directory failed.
    #[error("cannot render a site archive")]
    Directory(#[source] BootError),
    /// The facts cannot be written as JSON.
    #[error("cannot write the boot facts as JSON")]
    Facts(#[source] serde_json::Error),
    /// The facts do not fit into an archive.
    #[error("cannot put the boot facts into an archive")]
    Archive(#[source] ArchiveError),
}

impl BootService {
    /// Serves `files` from the HTTP address `http`, which the servers must be able to reach, and from `http6` to those that speak IPv6.
    ///
    /// # Errors
    /// [`BootFilesError::Missing`] without a kernel or a stage-1 image.
    pub fn new(
        files: BootFiles,
        directory: Arc<dyn BootDirectory>,
        http: SocketAddr,
        http6: Option<SocketAddr>,
    ) -> Result<Arc<Self>, BootFilesError> {
        let mut places = BTreeMap::new();
        for architecture in files.architectures().chain([Architecture::X86_64]) {
            let path = |name| {
                let missing = || BootFilesError::Missing {
                    path: PathBuf::from("manifest.json"),
                    name,
                };
                files.path(architecture, name).ok_or_else(missing)
            };
            let place = Stage1Places {
                host: host(http),
                tftp: http.ip(),
                kernel: path(KERNEL)?,
                archives: vec![path(STAGE1)?],
            };
            places.insert(architecture, place);
        }
        Ok(Arc::new(Self {
            files,
            directory,
            host: host(http),
            places,
            http6,
            archives: Mutex::default(),
        }))
    }

    /// The boot files.
    pub fn files(&self) -> &BootFiles {
        &self.files
    }

    /// Where boot files are served, without a slash at the end: [`DhcpSettings::http_base`](crate::dhcp::DhcpSettings::http_base).
    pub fn http_base(&self) -> String {
        format!("http://{}", self.host)
    }

    /// The same for who asks by IPv6: `dhcp6`'s.
    pub fn http_base6(&self) -> Option<String> {
        self.http6.map(|http6| format!("http://{}", host(http6)))
    }

    /// Names of the boot programs: [`DhcpSettings::loaders`](crate::dhcp::DhcpSettings::loaders).
    pub fn loaders(&self) -> BTreeSet<String> {
        let loaders = self.files.iter().filter(|(_, file)| file.for_tftp().is_some());
        loaders.map(|(name, _)| name.to_owned()).collect()
    }

    /// The script for a server, rendered now. When the plan cannot be had, or there is no stage 1 for the loader's processor, it is a script that says so
    /// and restarts.
    ///
    /// # Errors
    /// [`RenderError`], which is a mistake in a template.
    pub async fn script(&self, asked: ScriptPath, from: IpAddr) -> Result<String, RenderError> {
        let ScriptPath {
            language,
            architecture,
            mac,
        } = asked;
        let Some(whole) = self.places.get(&architecture) else {
            tracing::warn!(%mac, %from, %architecture, "a server boots that there is no stage 1 for: run `cargo xtask image --architecture {architecture}` and start the Lease Manager anew");
            return script::render_unavailable(language, mac);
        };
        match self.directory.plan(mac, from).await {
            Ok(plan) => {
                tracing::info!(%mac, %from, ?language, %architecture, ?plan, "a server asked what to boot");
                let mut places = self.places_for(&plan, architecture, whole);
                if let (Some(http6), true) = (self.http6, from.is_ipv6()) {
                    let places = places.to_mut();
                    (places.host, places.tftp) = (host(http6), http6.ip());
                }
                script::render(language, mac, &plan, &places)
            }
            Err(error) => {
                tracing::error!(%mac, %from, error = &error as &dyn std::error::Error, "a server is told to try again later");
                script::render_unavailable(language, mac)
            }
        }
    }

    /// The whole of stage 1, or the parts of it that the server needs.
    fn places_for<'a>(
        &self,
        plan: &BootPlan,
        architecture: Architecture,
        whole: &'a Stage1Places,
    ) -> Cow<'a, Stage1Places> {
        let own = match plan {
            BootPlan::Agent(boot) => match &boot.drivers {
                Drivers::Own(functions) => self.files.own_parts(architecture, functions),
                Drivers::All => None,
            },
            BootPlan::LocalDisk | BootPlan::Staged(_) => None,
        };
        match own {
            Some(archives) => Cow::Owned(Stage1Places {
                archives,
                ..whole.clone()
            }),
            None => Cow::Borrowed(whole),
        }
    }

    /// The site archive of one boot, rendered when it is asked for first. `None` when the name is unknown or used up, and for anybody but the first who asked.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn site_archive(&self, id: &SiteArchiveId, from: IpAddr) -> Result<Option<Bytes>, SiteError> {
        // Held while the directory is asked, so that two requests for one archive render it once.
        let mut archives = self.archives.lock().await;
        let now = Instant::now();
        archives.retain(|archive| archive.until > now);
        if let Some(known) = archives.iter().find(|archive| archive.id == *id) {
            return Ok((known.from == from).then(|| known.bytes.clone()));
        }
        let Some(facts) = self
            .directory
            .site_facts(id, from)
            .await
            .map_err(SiteError::Directory)?
        else {
            return Ok(None);
        };
        let bytes = render_archive(&facts)?;
        if archives.len() == MOST_ARCHIVES {
            archives.pop_front();
        }
        archives.push_back(RenderedArchive {
            id: id.clone(),
            from,
            until: now + ARCHIVE_TIME,
            bytes: bytes.clone(),
        });
        tracing::info!(mac = %facts.mac, %from, archive = ?id, "a site archive was rendered");
        Ok(Some(bytes))
    }
}

impl BootService {
    /// What HTTP has under the same path, for loaders that cannot reach it.
    async fn by_tftp(&self, name: &str, from: IpAddr) -> Option<Bytes> {
        if let Some(file) = self.files.loader(name) {
            return file.for_tftp().cloned();
        }
        let parts: Vec<&str> = name.split('/').collect();
        match parts[..] {
            ["boot", "files", sha256, last] => {
                let bytes = self.files.at_path(&sha256.parse().ok()?, last)?.bytes().await;
                given(name, bytes)
            }
            ["boot", "site", archive] => {
                let id = archive.strip_suffix(".img")?.parse().ok()?;
                given("a site archive", self.site_archive(&id, from).await).flatten()
            }
            ["boot", ref script @ ..] => {
                let script = self.script(ScriptPath::parse(script)?, from).await;
                given(name, script).map(Bytes::from)
            }
            _ => None,
        }
    }
}

/// TFTP has no word for trouble inside the LM: the log has.
fn given<T>(name: &str, outcome: Result<T, impl std::error::Error + 'static>) -> Option<T> {
    outcome
        .inspect_err(|error| {
            tracing::error!(
                name,
                error = error as &dyn std::error::Error,
                "a server gets no file"
            );
        })
        .ok()
}

impl TftpNames for BootService {
    fn open<'a>(&'a self, name: &'a str, from: IpAddr) -> BoxFuture<'a, Option<Bytes>> {
        self.by_tftp(name, from).boxed()
    }
}

/// The bytes hold a boot token, so they are wiped when the last copy goes.
fn render_archive(facts: &BootFacts) -> Result<Bytes, SiteError> {
    let json = serde_json::to_vec(facts).map_err(SiteError::Facts)?;
    let mut archive = Archive::new();
    archive
        .file(BOOT_FACTS_PATH, 0o600, json)
        .map_err(SiteError::Archive)?;
    Ok(Bytes::from_owner(Zeroizing::new(archive.to_bytes())))
}

/// The port is left out where it is the usual one: GRUB 2.06 knows no other.
fn host(http: SocketAddr) -> String {
    match http.ip() {
        ip if http.port() != 80 => SocketAddr::new(ip, http.port()).to_string(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
