//! The load: one TCP connection by iperf3(1), and echoes by ping(8) meanwhile.

use super::planes::Running;
use super::wire::{End, Wire};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::process::{Child, Stdio};

const GIB: f64 = (1u64 << 30) as f64;

/// What one round gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Payload of TCP that arrived, in Gbit/s.
    pub(super) rate: f64,
    /// CPU seconds of both ends' planes for each GiB of it.
    pub(super) cost: f64,
    /// An echo's time under this load in ms: the middle, and the one that only one in a hundred exceeds.
    pub(super) echo: Option<(f64, f64)>,
}

/// Sends for `seconds` as fast as it goes.
pub(super) fn round(wire: &Wire, running: &Running, seconds: u32) -> Result<Round> {
    let far = running.plane().address(End::Far).to_string();
    let mut server = Killed(
        wire.command(End::Far, "iperf3")
            .args(["--server", "--one-off", "--bind", &far])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start iperf3")?,
    );
    wait_for_listener(wire, &far)?;
    let (time, echoes) = (seconds.to_string(), (seconds * 20).to_string());
    let ping = wire
        .command(End::Near, "ping")
        .args(["-i", "0.05", "-c", &echoes, &far])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start ping")?;
    let before = running.cpu_seconds()?;
    let text = wire.run(
        End::Near,
        "iperf3",
        &["--client", &far, "--time", &time, "--json"],
    )?;
    let used = running.cpu_seconds()? - before;
    let ping = ping.wait_with_output().context("cannot wait for ping")?;
    server.0.wait().context("cannot wait for iperf3")?;
    let (rate, bytes) = received(&text)?;
    Ok(Round {
        rate,
        cost: used / (bytes / GIB),
        echo: quantiles(&String::from_utf8_lossy(&ping.stdout)),
    })
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_listener(wire: &Wire, address: &str) -> Result<()> {
    let wanted = format!("{address}:5201");
    for _ in 0..500 {
        if wire
            .run(End::Far, "ss", &["--listening", "--tcp", "--numeric"])?
            .contains(&wanted)
        {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    anyhow::bail!("iperf3 does not listen on {wanted} after 5 s")
}

fn received(text: &str) -> Result<(f64, f64)> {
    let report: Value = serde_json::from_str(text).context("iperf3 gave no JSON")?;
    let sum = &report["end"]["sum_received"];
    let number = |name: &str| {
        sum[name]
            .as_f64()
            .with_context(|| format!("iperf3's report has no {name}: {text}"))
    };
    let (rate, bytes) = (number("bits_per_second")? / 1e9, number("bytes")?);
    ensure!(bytes > 0.0, "nothing arrived: {text}");
    Ok((rate, bytes))
}

/// The middle of the echoes' times and the 99th percentile, in ms; `None` when none came back.
fn quantiles(text: &str) -> Option<(f64, f64)> {
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split_once(" time=")?.1.split(' ').next()?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((share * times.len() as f64) as usize).copied();
    Some((at(0.5)?, at(0.99)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ping_and_iperf_say() {
        let ping = "PING\n64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.5 ms\n\
                    64 bytes from 10.0.0.1: icmp_seq=2 ttl=64 time=1.5 ms\n3 packets transmitted, 2 received";
        assert_eq!(quantiles(ping), Some((1.5, 1.5)));
        assert_eq!(quantiles("100% packet loss"), None);
        let iperf = r#"{"end":{"sum_received":{"bytes":1000,"bits_per_second":2e9}}}"#;
        assert_eq!(received(iperf).unwrap(), (2.0, 1000.0));
        assert!(received(r#"{"error":"refused"}"#).is_err());
    }
}
