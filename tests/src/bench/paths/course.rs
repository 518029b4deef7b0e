//! One borrowing by one way in, followed on the server's serial line.

use crate::lab::CHAIN;
use crate::machine::{Machine, Power};
use crate::tiny_image::{SEEN, TINY};
use crate::ways::Way;
use anyhow::Result;
use std::time::Instant;

/// What the agent says when its `/init` begins, and at the end of the steps that are measured.
const STAGE1: &str = "leaseboot: stage 1, agent";
const REPORTED: &str = "leaseboot: hello: done";
const TUNNEL: &str = "leaseboot: tunnel: done";
const KEXEC: &str = "leaseboot: own time from /init to kexec";
const STAGE2: &str = "leaseboot: stage 2, agent";

/// A moment after power-on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since power-on.
    pub(super) seconds: f64,
    /// What the server has received from its wire by then.
    pub(super) bytes: u64,
}

/// A server's course from power-on to the enterprise's first instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Seconds from power-on to `/init` of stage 1.
    pub(super) cold: f64,
    /// The agent's first report was answered.
    pub(super) report: Moment,
    /// The tunnel was proven.
    pub(super) tunnel: Moment,
    /// Stage 2's `/init` began.
    pub(super) stage2: Moment,
    /// Seconds from the jump into the second kernel to its `/init`.
    pub(super) warm: f64,
}

impl Course {
    /// Borrows a server that comes in this way, for the tiny image.
    pub(super) async fn measure(way: Way) -> Result<Self> {
        let mut course = None;
        let plan = way.plan_of_a_borrowing();
        plan.run(async |lab| {
            let _beside = way.prepare(lab).await?;
            let mut borrowing = lab.borrow(TINY)?;
            let machine = lab.machine().clone();
            course = Some(borrowing.during(follow(&machine)).await?);
            machine.serial().wait_for(SEEN, CHAIN).await.map(drop)
        })
        .await?;
        course.ok_or_else(|| anyhow::anyhow!("the scenario ended without a word"))
    }
}

async fn follow(machine: &Machine) -> Result<Course> {
    machine.wait_for_power(Power::On, CHAIN).await?;
    let watch = Watch::begin(machine).await?;
    let cold = watch.sees(STAGE1).await?.seconds;
    let report = watch.sees(REPORTED).await?;
    let tunnel = watch.sees(TUNNEL).await?;
    let jump = watch.sees(KEXEC).await?;
    let stage2 = watch.sees(STAGE2).await?;
    Ok(Course {
        cold,
        report,
        tunnel,
        stage2,
        warm: stage2.seconds - jump.seconds,
    })
}

/// A server that is watched from its power-on.
pub(super) struct Watch<'a> {
    machine: &'a Machine,
    begun: Instant,
    received: u64,
}

impl<'a> Watch<'a> {
    pub(super) async fn begin(machine: &'a Machine) -> Result<Self> {
        Ok(Self {
            machine,
            begun: Instant::now(),
            received: machine.received_bytes().await?,
        })
    }

    /// The moment in which the serial line says so.
    pub(super) async fn sees(&self, words: &str) -> Result<Moment> {
        self.machine.serial().wait_for(words, CHAIN).await?;
        self.now().await
    }

    pub(super) async fn now(&self) -> Result<Moment> {
        let seconds = self.begun.elapsed().as_secs_f64();
        Ok(Moment {
            seconds,
            bytes: self.machine.received_bytes().await? - self.received,
        })
    }
}
