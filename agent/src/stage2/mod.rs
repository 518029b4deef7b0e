//! Stage 2: a wrapper around the enterprise's installer, whatever that is.
//!
//! ```text
//! kernel ─rdinit=─► wrapper (PID 1) ──mounts, /run/leaseboot──► child "@leaseboot-tunnel": network, tunnel, proof
//!                        ◄──────────────── "ready" ─────────────────┘        │ carries packets from now on
//!                        └─ unmounts what it mounted, exec /init             ▼
//! ```
//!
//! Which data plane carries the packets is chosen in the child ([`crate::plane`]). On the plane without a device the image's init is started with `http_proxy`, `https_proxy` and
//! `no_proxy` in its environment, unless they are there already, and `facts.json` has the proxy's URL.
//!
//! The child's name begins with `@`, which systemd spares when it changes the root (systemd's "Root Storage Daemons"). The facts,
//! which hold the key and the token, are gone from the file system before anybody else's program runs.

mod installer_log;
pub(crate) mod tunnel;
mod upkeep;

use crate::console::say;
use crate::errors::{AnyError, chain};
use crate::mounts::{self, KernelMounts};
use crate::power;
use leaseboot_protocol::installer::{FAI_VARIABLES, LIVE_FAI_VARIABLES, LIVE_SEED_FOLDER, SEED_FOLDER};
use leaseboot_protocol::stage2::{RuntimeFacts, Stage2Facts};
use leaseboot_protocol::{ARCHIVED_FACTS_PATH, RUNTIME_DIRECTORY, STAGE2_FACTS_PATH, WRAPPER_PATH};
use std::convert::Infallible;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the child is started as.
pub(crate) const TUNNEL_ARGV0: &str = "@leaseboot-tunnel";
/// What the child says when the tunnel is proven; a proxy's URL may follow.
const READY: &[u8] = b"ready";
/// The child gives up by itself before this.
const READY_DEADLINE: Duration = Duration::from_secs(600);

/// PID 1 of stage 2. Becomes the image's own init, or reboots.
pub(crate) fn main() -> ! {
    say!("stage 2, agent {}", env!("CARGO_PKG_VERSION"));
    let Err(error) = wrap();
    say!("stage 2: FAILED: {}", chain(error.as_ref()).join(": "));
    power::cycle()
}

fn wrap() -> Result<Infallible, AnyError> {
    let mounted = KernelMounts::mount()?;
    let bytes = fs::read(STAGE2_FACTS_PATH)?;
    let facts: Stage2Facts = serde_json::from_slice(&bytes)?;
    fs::remove_file(STAGE2_FACTS_PATH)?;
    leave_for_post()?;
    let proxy = start_tunnel(&bytes)?;
    leave_facts(&facts, proxy.clone())?;
    mounted.unmount();
    say!("stage 2: handing over to {}", facts.init);
    let error = Command::new(&facts.init)
        .args(std::env::args_os().skip(1))
        .envs(proxy_variables(proxy.as_deref(), |name| {
            std::env::var_os(name).is_some()
        }))
        .exec();
    Err(format!("cannot execute the image's {}: {error}", facts.init).into())
}

/// Leaves the agent and what `%post` needs on a tmpfs that outlives the initramfs.
fn leave_for_post() -> Result<(), AnyError> {
    mounts::mount_run()?;
    let folder = Path::new(RUNTIME_DIRECTORY);
    fs::create_dir_all(folder)?;
    fs::copy(WRAPPER_PATH, folder.join("agent"))?;
    fs::set_permissions(folder.join("agent"), Permissions::from_mode(0o755))?;
    leave_seed(Path::new(SEED_FOLDER), Path::new(LIVE_SEED_FOLDER))?;
    leave_variables(Path::new(FAI_VARIABLES), Path::new(LIVE_FAI_VARIABLES))
}

/// Leaves what `%post` and the curious may know.
fn leave_facts(facts: &Stage2Facts, proxy: Option<String>) -> Result<(), AnyError> {
    let runtime = RuntimeFacts {
        lease: facts.lease.clone(),
        address: facts.address.clone(),
        tunnel: facts.tunnel.clone(),
        proxy,
    };
    let json = serde_json::to_vec(&runtime)?;
    fs::write(Path::new(RUNTIME_DIRECTORY).join("facts.json"), &json)?;
    fs::write(ARCHIVED_FACTS_PATH, &json)?;
    Ok(())
}

/// Environment variables by which most programs find a proxy. The loopback interface's own addresses are reached without.
fn proxy_variables(
    proxy: Option<&str>,
    is_set: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (&'static str, &str)> {
    let all = proxy.map(|url| {
        [
            ("http_proxy", url),
            ("https_proxy", url),
            ("no_proxy", "localhost,127.0.0.1"),
        ]
    });
    all.into_iter().flatten().filter(move |(name, _)| !is_set(name))
}

/// Copies FAI's class variables, when there are any, to where the live system finds them; only root may read them, as in the archive.
fn leave_variables(archived: &Path, live: &Path) -> Result<(), AnyError> {
    if archived.is_file() {
        fs::copy(archived, live)
            .map_err(|error| format!("cannot copy FAI's variables to {}: {error}", live.display()))?;
    }
    Ok(())
}

/// Copies autoinstall's seed, when there is one, to where the live system finds it; only root may read it.
fn leave_seed(archived: &Path, live: &Path) -> Result<(), AnyError> {
    if !archived.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(live)?;
    for name in ["user-data", "meta-data"] {
        fs::copy(archived.join(name), live.join(name))
            .map_err(|error| format!("cannot copy {name} to {}: {error}", live.display()))?;
    }
    Ok(())
}

/// Starts the child, gives it the facts over a socket that nobody else can read, and waits for its word. Gives the proxy's URL, when there is a proxy.
fn start_tunnel(facts: &[u8]) -> Result<Option<String>, AnyError> {
    let (mut ours, theirs) = UnixStream::pair()?;
    Command::new("/proc/self/exe")
        .arg0(TUNNEL_ARGV0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    ours.write_all(facts)?;
    ours.shutdown(std::net::Shutdown::Write)?;
    ours.set_read_timeout(Some(READY_DEADLINE))?;
    let mut word = Vec::new();
    ours.take(64).read_to_end(&mut word)?;
    let Some(proxy) = word.strip_prefix(READY) else {
        return Err("the tunnel did not come up; its own lines above tell why".into());
    };
    let proxy = String::from_utf8(proxy.to_vec())?;
    Ok((!proxy.is_empty()).then_some(proxy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_by_the_environment_unless_the_image_has_its_own() {
        assert_eq!(proxy_variables(None, |_| false).count(), 0);
        let told: Vec<_> =
            proxy_variables(Some("http://127.0.0.1:3128"), |name| name == "https_proxy").collect();
        assert_eq!(
            told,
            [
                ("http_proxy", "http://127.0.0.1:3128"),
                ("no_proxy", "localhost,127.0.0.1")
            ]
        );
    }

    #[test]
    fn a_seed_is_copied_for_root_alone_and_its_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let (archived, live) = (folder.path().join("seed"), folder.path().join("live"));
        leave_seed(&archived, &live).unwrap();
        assert!(!live.exists());
        fs::create_dir(&archived).unwrap();
        for name in ["user-data", "meta-data"] {
            fs::write(archived.join(name), name).unwrap();
        }
        leave_seed(&archived, &live).unwrap();
        assert_eq!(fs::read_to_string(live.join("user-data")).unwrap(), "user-data");
        assert_eq!(fs::metadata(&live).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn variables_are_copied_for_root_alone_and_their_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let (archived, live) = (folder.path().join("fai.var"), folder.path().join("live"));
        leave_variables(&archived, &live).unwrap();
        assert!(!live.exists());
        fs::write(&archived, "A=x").unwrap();
        fs::set_permissions(&archived, Permissions::from_mode(0o600)).unwrap();
        leave_variables(&archived, &live).unwrap();
        assert_eq!(fs::read_to_string(&live).unwrap(), "A=x");
        assert_eq!(fs::metadata(&live).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
