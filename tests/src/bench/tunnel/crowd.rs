//! Hundreds of peers at once at one gateway: the example `swarm` of leaseboot-tunnel plays them at the far end, the kernel behind the gateway answers their echoes.
//!
//! All of them share one address, as a site behind address translation does. Who limits handshakes by address as strictly as the kernel does lets such a site in slowly.

use super::planes::{Places, Plane};
use super::wire::End;
use anyhow::{Context as _, Result, ensure};
use std::net::Ipv4Addr;
use std::process::Command;

const PEERS: usize = 500;
const SECONDS: u32 = 10;

/// What a plane did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// Echoes that came back, in thousands a second.
    pub(super) rate: f64,
    /// CPU seconds of the gateway for a million of them.
    pub(super) cost: f64,
    /// Seconds from the start until each had its first, or until that was given up.
    pub(super) ready: f64,
    /// Peers that had one by then.
    pub(super) served: f64,
}

/// Makes the peers' keys, which lie in `swarm.keys`; gives the public ones with their inner addresses.
pub(super) fn peers(places: &Places<'_>) -> Result<Vec<(String, Ipv4Addr)>> {
    let output = Command::new(&places.swarm)
        .args(["keys", &PEERS.to_string()])
        .output()
        .with_context(|| format!("cannot run {}", places.swarm.display()))?;
    let text = String::from_utf8(output.stdout).context("keys are no text")?;
    let path = places.folder.join("swarm.keys");
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    let first = u32::from(Ipv4Addr::new(10, 79, 1, 0));
    let peers = text.lines().zip(first..).filter_map(|(line, address)| {
        let (_, public) = line.split_once(' ')?;
        Some((public.to_owned(), Ipv4Addr::from(address)))
    });
    let peers: Vec<_> = peers.collect();
    ensure!(
        peers.len() == PEERS,
        "there are keys for {} of {PEERS} peers",
        peers.len()
    );
    Ok(peers)
}

/// Lets all of them at a gateway.
pub(super) fn measure(places: &Places<'_>, plane: Plane, peers: &[(String, Ipv4Addr)]) -> Result<Crowd> {
    let gateway = places.start_gateway(plane, peers)?;
    let before = gateway.cpu_seconds()?;
    let endpoint = format!("{}:{}", End::Near.outer(), End::Near.port());
    let keys = places.folder.join("swarm.keys");
    let said = places.wire.run(
        End::Far,
        places.swarm.to_str().context("a path is no UTF-8")?,
        &[
            "run",
            keys.to_str().context("a path is no UTF-8")?,
            &places.public(End::Near)?,
            &endpoint,
            &End::Near.inner().to_string(),
            &SECONDS.to_string(),
        ],
    )?;
    let used = gateway.cpu_seconds()? - before;
    let numbers: Vec<f64> = said
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("the swarm said {said:?}"))?;
    let [rate, ready, served] = numbers[..] else {
        anyhow::bail!("the swarm said {said:?}");
    };
    Ok(Crowd {
        rate: rate / 1e3,
        cost: used / (rate * f64::from(SECONDS)) * 1e6,
        ready,
        served,
    })
}
