//! The kernel's WireGuard, which this host need not have: a guest with Debian's kernel runs it against our own plane.

use anyhow::Result;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::guest::{Guest, host_program};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

/// Two wires from the first namespace, one to each of the others.
const SCRIPT: &str = "
number=1
for place in far member; do
    ip netns add $place
    ip link add $place type veth peer name wire netns $place
    ip address add 10.78.$number.1/24 dev $place
    ip link set $place up
    ip -n $place address add 10.78.$number.2/24 dev wire
    ip -n $place link set wire up
    ip -n $place link set lo up
    number=$((number + 1))
done
kernel_wireguard
";

#[tokio::test]
async fn the_kernels_wireguard_does_what_our_plane_does_and_speaks_with_it() -> Result<()> {
    let folders = Folders::find()?;
    let run = folders.scenario("kernel-wireguard")?;
    let guest = Guest {
        name: "kernel-wireguard",
        modules: &["wireguard", "tun", "veth"],
        programs: &[
            folders.program("examples/kernel_wireguard")?,
            host_program("ip").await?,
        ],
        files: &[],
        script: SCRIPT,
        cores: 2,
    };
    let running = guest.start(&folders, run.path()).await?;
    for claim in [
        "the kernel dials our plane",
        "our plane dials the kernel",
        "an address moves to the member's key after its handshake",
        "600 peers in many messages",
        "what a killed process left is taken away, and nothing else",
    ] {
        running
            .serial()
            .wait_for(&format!("held: {claim}"), PATIENCE)
            .await?;
    }
    running.comes_to_its_end(PATIENCE).await
}
