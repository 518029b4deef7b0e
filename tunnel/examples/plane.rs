//! The data plane alone, for `cargo xtask bench tunnel` and for trying things out; nothing of it is shipped.
//!
//! ```sh
//! plane [kernel|user] INTERFACE KEY-FILE PORT ADDRESS/PREFIX MTU PEER...
//! ```
//!
//! Without a word for it, ours carries the packets. A peer is `PUBLIC-KEY,ALLOWED-IP[,ENDPOINT]`; keys are as wg(8) writes them. One with an endpoint is dialled. It runs until it is killed.

use anyhow::{Context as _, Result};
use leaseboot_tunnel::{InterfaceSettings, PeerSettings, Plane, PlaneChoice, PrivateKey};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let choice = match arguments.next_if(|word| matches!(word.as_str(), "kernel" | "user")) {
        Some(word) if word == "kernel" => PlaneChoice::Kernel,
        _ => PlaneChoice::User,
    };
    let mut next = |what: &str| arguments.next().with_context(|| format!("{what} is missing"));
    let name = next("the interface")?;
    let key = next("the file of the private key")?;
    let key = std::fs::read_to_string(&key).with_context(|| format!("cannot read {key}"))?;
    let port: u16 = next("the port")?.parse().context("the port is no number")?;
    let address = next("the address")?
        .parse()
        .context("the address is not like 10.0.0.1/24")?;
    let mtu = next("the MTU")?.parse().context("the MTU is no number")?;
    let settings = InterfaceSettings {
        name,
        private_key: PrivateKey::from_base64(&key)?,
        listen: Some(([0, 0, 0, 0], port).into()),
        addresses: vec![address],
        mtu,
    };
    let tunnel = Plane::start(settings, choice).await?;
    for peer in arguments {
        tunnel.set_peer(parse(&peer)?).await?;
    }
    std::future::pending().await
}

fn parse(text: &str) -> Result<PeerSettings> {
    let mut words = text.split(',');
    let key = words.next().context("a peer has no key")?;
    let allowed = words
        .next()
        .with_context(|| format!("{text} allows no address"))?;
    let endpoint = words.next().map(str::parse).transpose();
    let endpoint = endpoint.with_context(|| format!("{text} has no endpoint like 192.0.2.1:51820"))?;
    Ok(PeerSettings {
        public_key: key
            .parse()
            .ok()
            .with_context(|| format!("{key} is no public key"))?,
        endpoint,
        allowed_ips: vec![
            allowed
                .parse()
                .with_context(|| format!("{allowed} is no network"))?,
        ],
        keepalive_s: endpoint.map(|_| 15),
    })
}
