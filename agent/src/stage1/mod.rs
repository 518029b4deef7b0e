//! Stage 1: from the first instruction of user space to the enterprise's kernel. One state per struct, each step takes the state
//! and gives the next, so a tunnel cannot be used before it is up, nor a kernel entered that was not verified.
//!
//! ```text
//! Booted ─drivers, network, clock─► OnWire ─hello─► Welcomed ─key, tunnel─► Tunnelled ─kickstart … kexec─► the second kernel
//!    │                                │                 │                      ├─ "disk": staged, then a start by the LM's order (`staging`)
//!    │                                │                 │                      │
//!    └────────────── a step failed for good: reported, then the LM cycles the power ─────┘
//!                                                       │                      └─ a disk image: written, member left in it (`image`), reboot
//!                                                       │                      └─ on an order, before each of these and after a failure: `rescue`, until it is withdrawn
//!                                                       ├─ task "rescue", on a server without a lease: `rescue`, then power off
//!                                                       ├─ task "wipe": every disk is erased, reported, power off (`wipe`)
//!                                                       └─ task "power off", or the lease is over: power off
//! ```
//!
//! When nobody orders a cycle in time, the agent reboots by itself: a server must never stand still in silence.

mod gather;
mod image;
mod tunnelled;
mod welcome;

use crate::clock::{self, Adjustment};
use crate::console::say;
use crate::crash;
use crate::drivers::{Drivers, Wanted};
use crate::errors::chain;
use crate::gateway::Gateway;
use crate::lm;
use crate::mounts::KernelMounts;
use crate::network::{self, AnyWire, NetworkError};
use crate::power;
use crate::report::{Delivery, Fault, StepFailed, Steps};
use crate::rescue;
use crate::wipe;
use gather::Chain;
use leaseboot_protocol::BOOT_FACTS_PATH;
use leaseboot_protocol::agent::{BootFacts, InstallTask, Task};
use leaseboot_protocol::erasure::WipeTask;
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::settings::TenantImage;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use welcome::Welcomed;

/// How long a failed agent waits for the LM's order before it reboots by itself.
const ORDER_DEADLINE: Duration = Duration::from_secs(120);
const NETWORK_ATTEMPTS: u32 = 5;

/// How stage 1 ends when it does not fail.
enum End {
    EnterLoadedKernel,
    /// The disk has a system now.
    BootFromDisk,
    PowerOff,
    /// Everything is staged. The LM orders the start; when its order does not come, the server's own restart leads to the same script.
    Restart,
}

/// The facts of the site archive are missing or broken: without them there is nobody to report to.
#[derive(Debug, thiserror::Error)]
enum FactsError {
    #[error("cannot read {BOOT_FACTS_PATH}: the boot script did not load the site archive")]
    Read(#[source] std::io::Error),
    #[error("cannot understand {BOOT_FACTS_PATH}")]
    Parse(#[source] serde_json::Error),
}

/// PID 1 of stage 1.
pub(crate) fn main() -> ! {
    let begun = Instant::now();
    say!("stage 1, agent {}", env!("CARGO_PKG_VERSION"));
    let ready = KernelMounts::mount()
        .map_err(|error| chain(&error))
        .and_then(|_| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| chain(&error))
        });
    match ready {
        Ok(runtime) => match runtime.block_on(run(begun)) {
            Some(End::EnterLoadedKernel) => power::enter_loaded_kernel(),
            Some(End::BootFromDisk) => power::cycle(),
            Some(End::PowerOff) => power::off(),
            Some(End::Restart) | None => power::cycle(),
        },
        Err(error) => {
            say!("FAILED: {}", error.join(": "));
            power::cycle()
        }
    }
}

/// Runs all steps; `None` after a failure that was reported.
async fn run(begun: Instant) -> Option<End> {
    let steps = Steps::new();
    let facts = match read_facts() {
        Ok(facts) => facts,
        Err(error) => {
            say!("FAILED: {}", chain(&error).join(": "));
            return None;
        }
    };
    match transfer(Booted { facts, steps }, begun).await {
        Ok(end) => Some(end),
        Err(failed) => {
            say!("{failed}");
            None
        }
    }
}

async fn transfer(booted: Booted, begun: Instant) -> Result<End, StepFailed> {
    let welcomed = booted.onto_the_wire().await?.hello().await?;
    let end = carry_out(&welcomed, begun).await;
    welcomed.log.flush().await;
    end
}

async fn carry_out(welcomed: &Welcomed, begun: Instant) -> Result<End, StepFailed> {
    let last_words = crash::take();
    if matches!(welcomed.task, Task::Install(_)) && !last_words.is_empty() {
        let reason = crash::reason(&last_words);
        welcomed.steps.earlier_boot(reason, last_words);
    }
    match &welcomed.task {
        Task::Install(task) => install(welcomed, task, begun).await,
        Task::Wipe(task) => wipe(welcomed, task).await,
        Task::Rescue => {
            rescue::stay(&welcomed.steps, &welcomed.session, None, false).await?;
            welcomed.delivery.flush().await;
            Ok(End::PowerOff)
        }
        Task::PowerOff | Task::Unknown => {
            welcomed.delivery.flush().await;
            Ok(End::PowerOff)
        }
    }
}

async fn install(welcomed: &Welcomed, task: &InstallTask, begun: Instant) -> Result<End, StepFailed> {
    let delivery = &welcomed.delivery;
    let chain = async {
        let tunnelled = match welcomed.tunnel(task).await {
            Ok(tunnelled) => tunnelled,
            Err(failed) => return look_at_failure(welcomed, None, failed).await,
        };
        let gateway = Some(tunnelled.gateway);
        if task.stay || delivery.stays() {
            rescue::stay(&welcomed.steps, &welcomed.session, gateway, true).await?;
        }
        // The enterprise's word; the lender's was compared with it.
        let fetched = async {
            match &tunnelled.manifest.image {
                TenantImage::Installer(image) => {
                    let chained = tunnelled.chain(task, image, welcomed).await;
                    chained.map(|chain| match chain {
                        Chain::Loaded => End::EnterLoadedKernel,
                        Chain::Staged => End::Restart,
                    })
                }
                TenantImage::Disk(image) => {
                    let written = tunnelled.write_image(task, image, welcomed).await;
                    written.map(|()| End::BootFromDisk)
                }
            }
        };
        // Goal: the end of what is fetched. The other never ends, and what it has set stays.
        let done = tokio::select! {
            done = fetched => done,
            never = tunnelled.keep_packet_size(task) => match never {},
        };
        match done {
            // What was staged or written is entered by an order of the LM's, or with its session closed: then it is too late to stay.
            Ok(End::EnterLoadedKernel) if delivery.stays() => {
                rescue::stay(&welcomed.steps, &welcomed.session, gateway, true).await?;
                Ok(End::EnterLoadedKernel)
            }
            Ok(end) => Ok(end),
            Err(failed) => look_at_failure(welcomed, gateway, failed).await,
        }
    };
    // Goal: the second kernel is loaded or the disk written, or the lease is over. Dropping the chain drops the tunnel and what was fetched.
    tokio::select! {
        done = chain => match done {
            Ok(End::EnterLoadedKernel) => {
                tell_own_time(begun, welcomed.steps.waited());
                delivery.flush().await;
                Ok(End::EnterLoadedKernel)
            }
            Ok(End::Restart) => {
                say!("staged; waiting for the lease manager to start the server anew");
                delivery.flush().await;
                match tokio::time::timeout(ORDER_DEADLINE, delivery.told_to_power_off()).await {
                    Ok(()) => Ok(End::PowerOff),
                    Err(_) => Ok(End::Restart),
                }
            }
            // The LM has closed the session: it takes no reports any more.
            Ok(end) => Ok(end),
            Err(failed) => failed_for_good(delivery, failed).await,
        },
        () = delivery.told_to_power_off() => {
            say!("the lease is over");
            Ok(End::PowerOff)
        }
    }
}

/// A step failed for good. Where somebody ordered that the agent stays, they can look at it first.
async fn look_at_failure(
    welcomed: &Welcomed,
    gateway: Option<Gateway>,
    failed: StepFailed,
) -> Result<End, StepFailed> {
    // The answer to the report says whether.
    welcomed.delivery.flush().await;
    if welcomed.delivery.stays() {
        let first = welcomed.steps.last_failure();
        // How the stay ended is told; what brought it about takes its course now.
        let _ = rescue::stay(&welcomed.steps, &welcomed.session, gateway, true).await;
        if let Some(first) = first {
            welcomed.steps.failed_all_the_same(first);
        }
    }
    Err(failed)
}

/// Nothing interrupts an erasure but the power: whatever becomes of the lease, the disks have to be clean.
async fn wipe(welcomed: &Welcomed, task: &WipeTask) -> Result<End, StepFailed> {
    let delivery = &welcomed.delivery;
    match wipe::run(task, &welcomed.steps, &welcomed.session, &welcomed.drivers).await {
        Ok(()) => {
            delivery.flush().await;
            Ok(End::PowerOff)
        }
        Err(failed) => failed_for_good(delivery, failed).await,
    }
}

/// The LM cycles the power from outside; when its order is to power off, it comes as the answer to a report.
async fn failed_for_good(delivery: &Delivery, failed: StepFailed) -> Result<End, StepFailed> {
    say!("{failed}; waiting for the lease manager's order");
    delivery.flush().await;
    let told = tokio::time::timeout(ORDER_DEADLINE, delivery.told_to_power_off()).await;
    if told.is_ok() {
        Ok(End::PowerOff)
    } else {
        Err(failed)
    }
}

fn tell_own_time(begun: Instant, waited: Duration) {
    let own = begun.elapsed().saturating_sub(waited);
    say!(
        "own time from /init to kexec, without network: {:.3} s",
        own.as_secs_f64()
    );
}

fn read_facts() -> Result<BootFacts, FactsError> {
    let bytes = std::fs::read(BOOT_FACTS_PATH).map_err(FactsError::Read)?;
    serde_json::from_slice(&bytes).map_err(FactsError::Parse)
}

/// The kernel runs and the site's facts are known.
struct Booted {
    facts: BootFacts,
    steps: Steps,
}

/// The server has an address and a usable clock.
struct OnWire {
    facts: BootFacts,
    steps: Steps,
    wire: AnyWire,
    drivers: Drivers,
    /// Storage controllers are probed meanwhile; the hardware report waits for their disks.
    storage: JoinHandle<Vec<String>>,
}

impl Booted {
    async fn onto_the_wire(self) -> Result<OnWire, StepFailed> {
        let Booted { facts, steps } = self;
        let mut drivers = steps
            .run(Step::Drivers, 1, async |_| {
                let mut drivers = Drivers::open().map_err(|error| Fault::Final(error.into()))?;
                crash::arm(&mut drivers);
                let loaded = drivers.load_for_hardware(Wanted::Network);
                say!("drivers: {}", loaded.join(" "));
                Ok(drivers)
            })
            .await?;
        let mut for_storage = drivers.clone();
        let storage = tokio::task::spawn_blocking(move || for_storage.load_for_hardware(Wanted::Everything));
        let wire = steps
            .run(Step::Network, NETWORK_ATTEMPTS, async |_| {
                let up = match facts.address6.clone() {
                    Some(address) => network::bring_up6(&mut drivers, facts.mac, address).await,
                    None => network::bring_up(&mut drivers, facts.mac, facts.address.clone())
                        .await
                        .map(AnyWire::Ipv4),
                };
                // With the drivers of the hardware on record only, trying again finds no other card: the next boot brings all drivers.
                let wire = up.map_err(|error: NetworkError| {
                    Fault::sort(facts.own_drivers && error.is_of_hardware(), error)
                })?;
                let lms = std::iter::once(&facts.lm_url).chain(&facts.lm_others);
                for lm in lms.filter_map(|url| lm::address(url)) {
                    wire.allow(lm).await.map_err(|error| Fault::Again(error.into()))?;
                }
                Ok(wire)
            })
            .await?;
        steps
            .run(Step::Clock, 1, async |_| {
                match clock::set_from_hint(facts.clock).map_err(|error| Fault::Final(error.into()))? {
                    Adjustment::Kept => say!("clock: good"),
                    Adjustment::Set { seconds } => say!("clock: was off, moved by {seconds} s"),
                }
                Ok(())
            })
            .await?;
        Ok(OnWire {
            facts,
            steps,
            wire,
            drivers,
            storage,
        })
    }
}
