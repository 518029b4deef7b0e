//! Somebody else on the lender's wire who tries to reach a lent server: from the bridge itself, with a source address of choice.

use crate::namespace::Namespace;
use crate::network::{LENDER_BRIDGE, LM_ADDRESS, Network};
use anyhow::{Context as _, Result};
use std::net::Ipv4Addr;

/// An address on the lender's wire that belongs to no server of a scenario.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 77);

/// Any answer counts, a refusal too: then the kernel heard us.
const KNOCK: &str = "
import socket, sys
kind, source, target, port = sys.argv[1:5]
knock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
knock.bind((source, 0))
knock.settimeout(3)
try:
    knock.connect((target, int(port)))
    if kind == 'udp':
        knock.send(b'knock')
        knock.recv(1)
except ConnectionRefusedError:
    pass
except OSError as error:
    sys.exit(str(error))
";

/// A source of probes.
pub struct Neighbour {
    lender: Namespace,
    source: Ipv4Addr,
}

impl Neighbour {
    /// A stranger on the wire.
    pub async fn stranger(network: &Network) -> Result<Self> {
        let add = format!("address replace {STRANGER}/32 dev {LENDER_BRIDGE}\n");
        network.lender.ip_batch(&add).await?;
        Ok(Self {
            lender: network.lender.clone(),
            source: STRANGER,
        })
    }

    /// The LM's own address: whoever is not answered has no business on the wire.
    pub fn lease_manager(network: &Network) -> Self {
        Self {
            lender: network.lender.clone(),
            source: LM_ADDRESS,
        }
    }

    /// The kinds of probes that a server answers, of ARP, ping, TCP and UDP.
    pub async fn answers(&self, server: Ipv4Addr) -> Result<Vec<&'static str>> {
        let (source, target) = (self.source.to_string(), server.to_string());
        let arp = [
            "arping",
            "-f",
            "-c",
            "2",
            "-w",
            "3",
            "-I",
            LENDER_BRIDGE,
            "-s",
            &source,
            &target,
        ];
        let ping = ["ping", "-c", "2", "-W", "3", "-I", &source, &target];
        let tcp = ["-c", KNOCK, "tcp", &source, &target, "80"];
        let udp = ["-c", KNOCK, "udp", &source, &target, "9"];
        let probes = [
            ("ARP", "busybox", &arp[..]),
            ("ping", "busybox", &ping),
            ("TCP", "python3", &tcp),
            ("UDP", "python3", &udp),
        ];
        let mut answered = Vec::new();
        for (name, program, arguments) in probes {
            let output = self.lender.command(program).args(arguments).output().await;
            let output = output.with_context(|| format!("cannot run {program} for the probe {name}"))?;
            if output.status.success() {
                answered.push(name);
            }
        }
        Ok(answered)
    }
}

/// All kinds of probes.
pub const EVERY_PROBE: [&str; 4] = ["ARP", "ping", "TCP", "UDP"];
