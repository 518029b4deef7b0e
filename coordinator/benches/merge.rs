//! Run by `cargo xtask bench merge`: one merge in each language, on one core. A lease is merged anew for every server, so this is what
//! a thousand leases at once cost beside everything else.

#![allow(missing_docs, unreachable_pub)]

#[path = "../tests/facts/mod.rs"]
mod facts;

use facts::{Facts, settings};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::settings::InstallSettings;
use std::hint::black_box;
use std::time::{Duration, Instant};

const MERGES: usize = 5_000;

fn main() {
    let kickstart = include_str!("../../tests/installer/example.ks");
    let preseed = include_str!("../tests/profiles/web.preseed");
    let autoinstall = include_str!("../tests/profiles/web-autoinstall.yaml");
    for (installer, text) in [
        (Installer::default(), kickstart),
        (Installer::Preseed {}, preseed),
        (Installer::Autoinstall {}, autoinstall),
    ] {
        say(
            &installer.to_string(),
            measure(&settings(installer, text), MERGES),
        );
    }
    // A long profile: a thousand packages and a script of a thousand lines.
    let packages: String = (0..1000).map(|n| format!("package-{n}\n")).collect();
    let script = "echo one more line of a long script >> /root/log\n".repeat(1000);
    let long = kickstart.replacen("nginx-light\n", &packages, 1) + "%post\n" + &script + "%end\n";
    say(
        "kickstart of 2,000 lines",
        measure(&settings(Installer::default(), &long), 500),
    );
}

/// The time of each merge, sorted.
fn measure(settings: &InstallSettings, count: usize) -> Vec<Duration> {
    let facts = Facts::new(Some("ttyS0,115200"));
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let before = Instant::now();
            let merged = black_box(facts.merge(black_box(settings)));
            let took = before.elapsed();
            assert!(merged.is_ok(), "{merged:?}");
            took
        })
        .collect();
    times.sort_unstable();
    times
}

/// In the words of the bench frame (`leaseboot_tests::bench`), which this crate must not import. There is no peer; the goal is a time.
fn say(name: &str, times: Vec<Duration>) {
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1000.0;
    for (what, ms) in [("median", at(50)), ("p99", at(99))] {
        println!(
            r#"row {{"name":"merge, {name}, {what}","unit":"ms","ours":{ms:.4},"goal":{{"at_most":1.0}}}}"#
        );
    }
}
