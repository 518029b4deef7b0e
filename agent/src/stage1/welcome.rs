//! The hello: who we are and what we are made of; the task comes back.

use super::OnWire;
use crate::boot_log::{self, Reader};
use crate::drivers::Drivers;
use crate::hardware;
use crate::kexec;
use crate::lm::{LeaseManager, Session};
use crate::network::AnyWire;
use crate::report::{Delivery, Fault, StepFailed, Steps};
use leaseboot_protocol::agent::{BootFacts, Hello, Task};
use leaseboot_protocol::boot_log::LogSource;
use leaseboot_protocol::lease::Step;
use std::cell::RefCell;
use std::path::Path;

/// An LM that restarts is back within this many attempts.
const HELLO_ATTEMPTS: u32 = 30;

/// The LM knows us and has given a task.
pub(super) struct Welcomed {
    pub(super) facts: BootFacts,
    pub(super) steps: Steps,
    pub(super) wire: AnyWire,
    pub(super) drivers: RefCell<Drivers>,
    pub(super) session: Session,
    pub(super) delivery: Delivery,
    pub(super) log: boot_log::Sender,
    pub(super) task: Task,
}

impl OnWire {
    pub(super) async fn hello(self) -> Result<Welcomed, StepFailed> {
        let OnWire {
            facts,
            steps,
            wire,
            drivers,
            storage,
        } = self;
        // A panic among storage drivers costs the report its disks, not the server its transfer.
        let loaded = storage.await.unwrap_or_default();
        crate::console::say!("drivers of storage: {}", loaded.join(" "));
        let hardware = hardware::report(Path::new("/"));
        let mut already_sent = 0;
        let (lm, welcome) = steps
            .run(Step::Hello, HELLO_ATTEMPTS, async |_| {
                let lm = LeaseManager::new(&facts.lm_url, &facts.lm_others, &facts.lm_ca_pem)
                    .map_err(|error| Fault::Final(error.into()))?;
                let earlier = steps.kept();
                already_sent = earlier.len();
                let hello = Hello {
                    agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                    mac: facts.mac,
                    hardware: hardware.clone(),
                    earlier,
                    without_kexec: !kexec::is_there(),
                };
                let welcome = lm.hello(&facts.boot_token, &hello).await;
                let welcome = welcome.map_err(|error| Fault::sort(error.is_final(), error))?;
                Ok((lm, welcome))
            })
            .await?;
        crate::console::say!("hello: we are {}", welcome.server);
        let session = lm.session(welcome.session_token);
        let delivery = steps.connect(session.clone(), already_sent);
        let log = boot_log::Sender::start(LogSource::Stage1, vec![Reader::Lm(session.clone())]);
        let drivers = RefCell::new(drivers);
        Ok(Welcomed {
            facts,
            steps,
            wire,
            drivers,
            session,
            delivery,
            log,
            task: welcome.task,
        })
    }
}
