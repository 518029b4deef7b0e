//! `cargo xtask bench planes`: what an installer gets through each data plane, on an emulated server.
//!
//! The planes run where they are used: in the second kernel of a transfer, because the kernel's WireGuard and the cost of a TUN device are that kernel's. An emulated processor is slow, so
//! only the ratio to the TUN plane says something. The image is the laboratory's installer with another first program: it downloads the same bytes from inside the enterprise and counts
//! seconds, and the ticks that the whole server was busy.

use super::{Measurement, parts};
use crate::assets::{Assets, compress};
use crate::folders::Folders;
use crate::lab::{CHAIN, Plan};
use crate::namespace::Service;
use crate::network::{Network, REPOSITORY_ADDRESS};
use crate::tiny_image;
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::archive::Archive;
use std::time::Duration;

/// Bytes of a download, and how many there are.
const LENGTH: usize = 24 << 20;
const DOWNLOADS: usize = 3;
const DOWNLOAD: Duration = Duration::from_secs(300);
/// Ticks of the kernel's accounting in a second (`USER_HZ`).
const TICKS: f64 = 100.0;
/// The one that stage 1 and the installed system have, first: the others are compared with it.
const PLANES: [&str; 3] = ["tun", "kernel", "proxy"];
const PORT: u16 = 80;
const END: &str = "bench: end";

/// In the place of the installer. `/proc/uptime` before and after, and the first line of `/proc/stat`.
const FIRST_PROGRAM: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset http_proxy https_proxy
mkdir -p /proc
mount -t proc proc /proc
now() { echo "$(cut -d ' ' -f 1 /proc/uptime) $(head -n 1 /proc/stat)"; }
for number in 1 2 3; do
    before=$(now)
    size=$(curl -sS -o /dev/null -w '%{size_download}' http://172.20.0.2/blob)
    echo "bench: $size | $before | $(now)"
done
echo "bench: end"
while :; do sleep 3600; done
"#;

/// What one plane did.
#[derive(Clone, Copy, Debug)]
struct Speed {
    per_second: f64,
    per_cpu_second: f64,
}

/// Measures `parts`, or all when it names none, and says the rows.
///
/// # Errors
/// When a plane cannot be had, or carries nothing.
pub async fn run(parts_wanted: &[String]) -> Result<()> {
    let wanted = parts(parts_wanted, &PLANES)?;
    let initrd = initrd().await?;
    let tun = measure("tun", &initrd).await?;
    for plane in PLANES.into_iter().filter(|plane| wanted(plane)) {
        let speed = match plane {
            "tun" => tun,
            other => measure(other, &initrd).await?,
        };
        Measurement::new(format!("download by {plane}"), "MiB/s", speed.per_second)
            .against("tun", tun.per_second)
            .say()?;
        Measurement::new(
            format!("download by {plane}, CPU"),
            "MiB/CPU-s",
            speed.per_cpu_second,
        )
        .against("tun", tun.per_cpu_second)
        .say()?;
    }
    Ok(())
}

/// The installer's initrd, and behind it our first program.
async fn initrd() -> Result<Vec<u8>> {
    let assets = Assets::find(&Folders::find()?)?;
    let mut all = std::fs::read(assets.initrd()).context("cannot read the installer's initrd")?;
    let mut archive = Archive::new();
    archive.file("bench-init", 0o755, FIRST_PROGRAM)?;
    // The kernel wants the next archive on a boundary of four bytes.
    all.resize(all.len().next_multiple_of(4), 0);
    all.extend(compress(&["zstd", "-q", "-c"], &archive.to_bytes()).await?);
    Ok(all)
}

async fn measure(plane: &str, initrd: &[u8]) -> Result<Speed> {
    let mut speeds = Vec::new();
    let plan = Plan::named(&format!("bench-plane-{plane}")).without_installer();
    plan.run(async |lab| {
        let words = format!("rdinit=/bench-init leaseboot.plane={plane}");
        tiny_image::add_profile_with_words(&lab.po, "bench", initrd, &[], &words)?;
        let _blob = serve(&lab.network).await?;
        let serial = lab.machine().serial().clone();
        let mut borrowing = lab.borrow("bench")?;
        borrowing.during(serial.wait_for(END, CHAIN + DOWNLOAD)).await?;
        let told = serial.tail(usize::MAX);
        speeds = told.lines().filter_map(speed).collect();
        Ok(())
    })
    .await?;
    ensure!(
        speeds.len() == DOWNLOADS,
        "{plane}: {} downloads of {DOWNLOADS}",
        speeds.len()
    );
    // The first also pays for the slow start of everything.
    let of = |value: fn(&Speed) -> f64| super::median(speeds.iter().map(value).collect());
    Ok(Speed {
        per_second: of(|speed| speed.per_second),
        per_cpu_second: of(|speed| speed.per_cpu_second),
    })
}

/// Reads `bench: SIZE | UPTIME cpu USER NICE SYSTEM IDLE IOWAIT … | UPTIME cpu …` (proc_stat(5)).
fn speed(line: &str) -> Option<Speed> {
    let (_, numbers) = line.split_once("bench: ")?;
    let mut fields = numbers.split(" | ");
    let size: usize = fields.next()?.trim().parse().ok()?;
    let (begun, busy_then) = moment(fields.next()?)?;
    let (ended, busy_now) = moment(fields.next()?)?;
    if size != LENGTH {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let mebibytes = size as f64 / f64::from(1 << 20);
    Some(Speed {
        per_second: mebibytes / (ended - begun).max(0.01),
        per_cpu_second: mebibytes / ((busy_now - busy_then) / TICKS).max(0.01),
    })
}

/// Seconds since the start, and ticks that the processors were busy.
fn moment(text: &str) -> Option<(f64, f64)> {
    let mut words = text.split_whitespace();
    let uptime = words.next()?.parse().ok()?;
    let ticks: Vec<f64> = words.skip(1).filter_map(|word| word.parse().ok()).collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    // Guests' time, the ninth and tenth, is in user time already.
    Some((uptime, ticks.iter().take(8).sum::<f64>() - idle))
}

async fn serve(network: &Network) -> Result<Service> {
    let start = || async {
        let listener = tokio::net::TcpListener::bind((REPOSITORY_ADDRESS, PORT)).await?;
        let blob = bytes::Bytes::from(vec![0x5a; LENGTH]);
        let page = axum::Router::new().fallback(move || async move { blob });
        Ok(((), async move { drop(axum::serve(listener, page).await) }))
    };
    Ok(network.repo.serve("blob", start).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = format!(
            "[  9.1] bench: {LENGTH} | 10.00 cpu 100 0 50 900 10 0 5 0 0 0 | 14.00 cpu 250 0 100 1000 20 0 5 0 0 0"
        );
        let speed = speed(&line).unwrap();
        assert!((speed.per_second - 6.0).abs() < 1e-9);
        assert!((speed.per_cpu_second - 12.0).abs() < 1e-9);
        assert!(super::speed("bench: 5 | 1 cpu 1 1 1 1 1 | 2 cpu 1 1 1 1 1").is_none());
    }
}
