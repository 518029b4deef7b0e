//! Stage 2: a wrapper around the enterprise's installer, whatever that is.
//!
//! ```text
//! kernel ─rdinit=─► wrapper (PID 1) ──mounts, /run/leaseboot──► child "@leaseboot-tunnel": network, tunnel, proof
//!                        ◄──────────────── "ready" ─────────────────┘        │ carries packets from now on
//!                        └─ unmounts what it mounted, exec /init             ▼
//! ```
//!
//! The child's name begins with `@`, which systemd spares when it changes the root (systemd's "Root Storage Daemons"). The facts,
//! which hold the key and the token, are gone from the file system before anybody else's program runs.

pub(crate) mod tunnel;

use crate::console::say;
use crate::errors::{AnyError, chain};
use crate::mounts::{self, KernelMounts};
use crate::power;
use leaseboot_protocol::stage2::{RuntimeFacts, Stage2Facts};
use leaseboot_protocol::{RUNTIME_DIRECTORY, STAGE2_FACTS_PATH, WRAPPER_PATH};
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the child is started as.
pub(crate) const TUNNEL_ARGV0: &str = "@leaseboot-tunnel";
/// What the child says when the tunnel is proven.
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
    leave_for_post(&facts)?;
    start_tunnel(&bytes)?;
    mounted.unmount();
    say!("stage 2: handing over to {}", facts.init);
    let error = Command::new(&facts.init).args(std::env::args_os().skip(1)).exec();
    Err(format!("cannot execute the image's {}: {error}", facts.init).into())
}

/// Leaves the agent and what `%post` needs on a tmpfs that outlives the initramfs.
fn leave_for_post(facts: &Stage2Facts) -> Result<(), AnyError> {
    mounts::mount_run()?;
    let folder = Path::new(RUNTIME_DIRECTORY);
    fs::create_dir_all(folder)?;
    fs::copy(WRAPPER_PATH, folder.join("agent"))?;
    fs::set_permissions(folder.join("agent"), Permissions::from_mode(0o755))?;
    let runtime = RuntimeFacts {
        lease: facts.lease.clone(),
        address: facts.address.clone(),
        tunnel: facts.tunnel.clone(),
    };
    fs::write(folder.join("facts.json"), serde_json::to_vec(&runtime)?)?;
    Ok(())
}

/// Starts the child, gives it the facts over a socket that nobody else can read, and waits for its word.
fn start_tunnel(facts: &[u8]) -> Result<(), AnyError> {
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
    if word == READY {
        Ok(())
    } else {
        Err("the tunnel did not come up; its own lines above tell why".into())
    }
}
