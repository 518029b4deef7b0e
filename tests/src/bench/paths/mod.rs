//! `cargo xtask bench paths`: each way in, from power-on to the enterprise's first instruction.
//!
//! ```text
//! power on ──firmware, loader──► /init of stage 1 ──► report to the LM ──► tunnel ──► kexec ──► /init of stage 2
//!    │◄──────── cold start ───────────►│                                               │◄─ warm ─►│
//! power on ──firmware, loader──► debian-installer ──► its address by DHCP          (the peer, by the same firmware)
//! ```
//!
//! Seconds are those of the serial line as it comes in; bytes are all that the server received from its wire. What a reboot through the
//! firmware would cost in place of kexec is what the cold start of the same server cost a moment before: both end at the first instruction of
//! an `/init` of ours, under the same kernel. Virtual firmware is quick: a board's takes minutes where SeaBIOS takes two seconds.

mod course;
mod installer;

use super::{Goal, Measurement, parts};
use crate::folders::Folders;
use crate::ways::Way;
use anyhow::{Context as _, Result};
use course::Course;
use installer::Installer;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The installer that is measured beside ours.
const PEER: &str = "debian-installer";
/// Of the installer's time to its network.
const REPORT: Goal = Goal::RatioAtMost(0.5);
/// Of a reboot through the firmware.
const WARM: Goal = Goal::RatioAtMost(0.35);

/// Measures the ways of these names, or all.
pub fn run(named: &[String]) -> Result<()> {
    let names = Way::ALL.map(Way::name);
    let chosen = parts(named, &names)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    runtime.block_on(async {
        let folders = Folders::find()?;
        let mut installers = HashMap::new();
        for way in Way::ALL.into_iter().filter(|way| chosen(way.name())) {
            let firmware = way.firmware();
            if let Entry::Vacant(place) = installers.entry(firmware) {
                place.insert(Installer::measure(firmware, &folders).await?);
            }
            let course = Course::measure(way)
                .await
                .with_context(|| format!("cannot measure the way {}", way.name()))?;
            say(way, &course, installers[&firmware].as_ref())?;
        }
        Ok(())
    })
}

#[allow(clippy::cast_precision_loss)]
fn say(way: Way, course: &Course, installer: Option<&Installer>) -> Result<()> {
    let name = way.name();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let seconds = |what: &str, value: f64| Measurement::new(format!("{name}: {what}"), "s", value);
    let mut report = seconds("power-on to the agent's report", course.report.seconds);
    let mut bytes = Measurement::new(
        format!("{name}: received by then"),
        "MiB",
        mebibytes(course.report.bytes),
    );
    if let Some(installer) = installer {
        report = report.against(PEER, installer.network.seconds).goal(REPORT);
        bytes = bytes.against(PEER, mebibytes(installer.network.bytes));
    }
    let warm = seconds("kexec to /init of stage 2", course.warm);
    let rows = [
        report,
        bytes,
        seconds("power-on to the tunnel", course.tunnel.seconds),
        seconds("power-on to /init of stage 2", course.stage2.seconds),
        warm.against("through the firmware", course.cold).goal(WARM),
    ];
    for row in rows {
        row.say()?;
    }
    Ok(())
}
