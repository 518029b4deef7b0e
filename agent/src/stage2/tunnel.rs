//! The wrapper's child: puts network and tunnel up in the second kernel, proves the tunnel, and then carries packets until the
//! machine goes down. It holds the lender's address meanwhile, and tells what the installer's log says; else it knows nothing of the installer.

use super::READY;
use super::installer_log::{self, Logs};
use super::upkeep::{self, Held};
use crate::boot_log::{Reader, Sender};
use crate::clock;
use crate::console::say;
use crate::crash;
use crate::drivers::{Drivers, Wanted};
use crate::errors::{AnyError, chain};
use crate::gateway::Gateway;
use crate::init_root::InitRoot;
use crate::lm::{self, LeaseManager};
use crate::network;
use crate::path_mtu;
use crate::plane::{Plane, Wish};
use crate::report::{Fault, StepFailed, Steps};
use crate::staging;
use leaseboot_protocol::boot_log::LogSource;
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::stage2::Stage2Facts;
use leaseboot_tunnel::PrivateKey;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

const NETWORK_ATTEMPTS: u32 = 5;
const PROOF_ATTEMPTS: u32 = 30;

/// The child's whole life.
pub(crate) fn main() -> ExitCode {
    match carry() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("stage 2: FAILED: {}", chain(error.as_ref()).join(": "));
            ExitCode::FAILURE
        }
    }
}

fn carry() -> Result<(), AnyError> {
    let mut parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut bytes = Vec::new();
    parent.read_to_end(&mut bytes)?;
    let facts: Stage2Facts = serde_json::from_slice(&bytes)?;
    let key = PrivateKey::from_base64(facts.private_key.expose())?;
    clock::not_before(facts.clock)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let steps = Steps::new();
        let mut drivers = Drivers::of_image();
        crash::arm(&mut drivers);
        if let Some(staged) = &facts.staged {
            staging::remove(staged, &mut drivers);
        }
        let (drivers, mut held) = join_the_wire(&steps, &facts, drivers).await?;
        let lm = LeaseManager::new(&facts.lm_url, &facts.lm_others, &facts.lm_ca_pem)?;
        let session = lm.session(facts.session_token.clone());
        let delivery = steps.connect(session.clone(), 0);
        // To the lender until the installer takes over; from then on it is the enterprise's log alone.
        let lenders = Sender::start(LogSource::Stage2, vec![Reader::Lm(session)]);
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let up = put_up(&steps, drivers, &facts, &key, &command_line).await;
        delivery.flush().await;
        lenders.flush().await;
        let tunnel = up?;
        drop(lenders);
        let gateway = Gateway::new(facts.tunnel.gateway_service);
        let _enterprises = Sender::start(LogSource::Stage2, vec![Reader::Po(gateway)]);
        let mtu = path_mtu::driver::settle(&tunnel, &facts.tunnel, facts.tunnel.mtu).await;
        let changes = upkeep::listen()?;
        let root = InitRoot::open()?;
        parent.write_all(READY)?;
        if let Some(url) = tunnel.proxy_url() {
            parent.write_all(url.as_bytes())?;
        }
        drop(parent);
        release_stdin();
        // Goal: all three until the machine goes down. None ends, so none is dropped.
        tokio::select! {
            never = path_mtu::driver::keep(&tunnel, &facts.tunnel, mtu) => match never {},
            never = installer_log::follow(root, Logs::on(&command_line), steps) => match never {},
            never = upkeep::keep(changes, &mut held, &tunnel) => match never {},
        }
    })
}

/// The lender's wire again, closed to all but the LM and the gateway, with the drivers of the enterprise's image.
async fn join_the_wire(
    steps: &Steps,
    facts: &Stage2Facts,
    mut drivers: Drivers,
) -> Result<(Drivers, Held), StepFailed> {
    let held = steps
        .run(Step::Network, NETWORK_ATTEMPTS, async |_| {
            drivers.load_for_hardware(Wanted::Network);
            let known = Some(facts.address.clone());
            let wire = network::bring_up(&mut drivers, facts.address.mac, known).await;
            let wire = wire.map_err(|error| Fault::Again(error.into()))?;
            let gateway = facts.tunnel.gateway_endpoint.ip();
            let lms = std::iter::once(&facts.lm_url).chain(&facts.lm_others);
            let peers = lms.filter_map(|url| lm::address(url)).chain([gateway]).collect();
            let held = Held::open(wire, peers).await;
            held.map_err(|error| Fault::Again(error.into()))
        })
        .await?;
    Ok((drivers, held))
}

/// The tunnel again, proven by a request through it.
async fn put_up(
    steps: &Steps,
    mut drivers: Drivers,
    facts: &Stage2Facts,
    key: &PrivateKey,
    command_line: &str,
) -> Result<Plane, StepFailed> {
    let mut running = None;
    let gateway = Gateway::new(facts.tunnel.gateway_service);
    steps
        .run(Step::Wrapper, PROOF_ATTEMPTS, async |progress| {
            if running.is_none() {
                let wish = Wish::on(command_line).map_err(|error| Fault::Final(error.into()))?;
                let plane = Plane::start(wish, &mut drivers, key, &facts.tunnel).await;
                let plane = plane.map_err(|error| Fault::Again(error.into()))?;
                progress.note(plane.describe());
                running = Some(plane);
            }
            gateway
                .session()
                .await
                .map(|_| ())
                .map_err(|error| Fault::Again(error.into()))
        })
        .await?;
    running.ok_or(StepFailed(Step::Wrapper))
}

/// The wrapper waits for the socket to close, and standard input is a copy of it.
fn release_stdin() {
    if let Ok(null) = std::fs::File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(null);
    }
}
