//! Ours against the kernel's WireGuard, in a QEMU guest, because the hosts that this is measured on need not have it.
//!
//! The guest is two namespaces and a veth pair, as outside. Its processor is emulated: a cipher that is a few wide instructions on a real one is hundreds of steps here, and system calls cost as little as
//! anything else. So the rates mean nothing, and the ratio is what it is in an emulated machine and nowhere else; it shows that neither plane is far from the other.

use super::super::{Measurement, median};
use crate::folders::Folders;
use crate::guest::{Guest, host_program};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(240);
/// What a line of a measurement begins with: then the plane, then what iperf3 says.
const MEASURED: &str = "measured ";

/// The far end dials. A plane of the kernel that is killed leaves its device, which would answer for the next round's until that is there.
const SCRIPT: &str = r#"
ip netns add near
ip netns add far
ip link add name transit netns near type veth peer name transit netns far
number=1
for end in near far; do
    ip -n $end link set lo up
    ip -n $end link set transit up
    ip -n $end address add 10.78.0.$number/24 dev transit
    number=$((number + 1))
done
enter="/programs/ip netns exec"
round() {
    $enter near /programs/plane $1 tunnel /near.key 51821 10.79.0.1/16 1420 $(cat /far.pub),10.79.0.2/32 &
    near=$!
    $enter far /programs/plane $1 tunnel /far.key 51822 10.79.0.2/16 1420 $(cat /near.pub),10.79.0.1/32,10.78.0.1:51821 &
    far=$!
    until $enter near ping -c 1 -W 1 10.79.0.2 > /dev/null 2>&1; do sleep 0.1; done
    $enter far /programs/iperf3 --server --one-off --bind 10.79.0.2 > /dev/null &
    server=$!
    until $enter near /programs/iperf3 --client 10.79.0.2 --time 6 --omit 1 --format k > /tmp/said 2>&1; do sleep 0.1; done
    echo measured $1 $(grep receiver /tmp/said)
    kill $near $far
    wait $near $far $server || true
    for end in near far; do ip -n $end link del tunnel 2> /dev/null || true; done
}
for number in 1 2 3; do
    round kernel
    round user
done
"#;

/// Measures, and says the row.
pub(super) fn row(programs: &Path, keys: [(&Path, &str); 2]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let lines = runtime.block_on(measured(programs, keys))?;
    let middle = |plane: &str| -> Result<f64> {
        let mine = lines
            .iter()
            .filter(|line| line.split_whitespace().nth(1) == Some(plane));
        let rates: Vec<f64> = mine.map(|line| kilobits(line)).collect::<Result<_>>()?;
        ensure!(!rates.is_empty(), "nothing was measured of {plane}: {lines:?}");
        Ok(median(rates) / 1e3)
    };
    Measurement::new(
        "TCP in an emulated machine, against the kernel's WireGuard",
        "Mbit/s",
        middle("user")?,
    )
    .against("kernel", middle("kernel")?)
    .say()
    .context("cannot say the row")
}

async fn measured(programs: &Path, keys: [(&Path, &str); 2]) -> Result<Vec<String>> {
    let folders = Folders::find()?;
    let run = folders.scenario("bench-guest")?;
    let mut files = Vec::new();
    for ((key, public), end) in keys.into_iter().zip(["near", "far"]) {
        let private = std::fs::read(key).with_context(|| format!("cannot read {}", key.display()))?;
        files.push((format!("{end}.key"), private));
        files.push((format!("{end}.pub"), public.as_bytes().to_vec()));
    }
    let guest = Guest {
        name: "bench-guest",
        modules: &["wireguard", "tun", "veth"],
        programs: &[
            programs.join("plane"),
            host_program("ip").await?,
            host_program("iperf3").await?,
        ],
        files: &files,
        script: SCRIPT,
        cores: 2,
    };
    let running = guest.start(&folders, run.path()).await?;
    running.comes_to_its_end(PATIENCE).await?;
    let said = running.serial().since(Default::default());
    let measured = |line: &String| line.contains(MEASURED);
    Ok(said
        .into_iter()
        .filter(measured)
        .map(|line| line[line.find(MEASURED).unwrap_or(0)..].to_owned())
        .collect())
}

/// The rate of a line such as `measured user [ 5] 0.00-6.00 sec 88.2 MBytes 123456 Kbits/sec receiver`.
fn kilobits(line: &str) -> Result<f64> {
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Kbits/sec");
    let rate = unit.and_then(|unit| words.get(unit.checked_sub(1)?)?.parse().ok());
    rate.with_context(|| format!("iperf3 said {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_iperf3_says() {
        let line = "measured user [ 5] 0.00-6.00 sec 88.2 MBytes 123456 Kbits/sec receiver";
        assert_eq!(kilobits(line).unwrap(), 123_456.0);
        assert!(kilobits("measured user").is_err());
    }
}
