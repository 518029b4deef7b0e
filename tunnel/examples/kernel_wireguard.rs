//! The kernel's WireGuard against our own plane, for the scenario `kernel_wireguard`, whose guest runs it as root on a kernel that has WireGuard; nothing of it is shipped.
//!
//! ```text
//!   this namespace                    namespace "far"       our plane, 10.79.0.2
//!   the kernel, 10.79.0.1   ───────   namespace "member"    our plane, 10.79.0.2 as well
//! ```
//!
//! The guest's script lays the wires. Each claim is a function; its name is printed when it held, and the first that does not ends the program.

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_tunnel::{
    InterfaceSettings, KernelError, KernelTunnel, PeerSettings, Plane, PlaneChoice, PrivateKey, Shape,
    Tunnel, TunnelError,
};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LENGTH: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
const INNER: &str = "10.79.0.2:7";
const KERNEL_PORT: u16 = 51821;
const OUR_PORT: u16 = 51822;
/// Far more than fit one message.
const CROWD: u32 = 600;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // The first thread enters namespaces, so what is awaited by it is created there.
    runtime.block_on(async {
        carries(Dialler::Kernel).await.context("the kernel dials")?;
        println!("held: the kernel dials our plane");
        carries(Dialler::Ours).await.context("we dial")?;
        println!("held: our plane dials the kernel");
        swaps().await.context("the swap of keys")?;
        println!("held: an address moves to the member's key after its handshake");
        crowd().await.context("the crowd")?;
        println!("held: {CROWD} peers in many messages");
        leftovers().await.context("leftovers")?;
        println!("held: what a killed process left is taken away, and nothing else");
        Ok(())
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialler {
    Kernel,
    Ours,
}

/// A namespace at the far end, and its side of the wire to this one.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    /// This end's address and that end's.
    near: &'static str,
    far: &'static str,
}

const FAR: Place = Place {
    name: "far",
    near: "10.78.1.1",
    far: "10.78.1.2",
};
const MEMBER: Place = Place {
    name: "member",
    near: "10.78.2.1",
    far: "10.78.2.2",
};

impl Place {
    /// Does something whose beginning is in the namespace.
    async fn within<T>(self, deed: impl Future<Output = T>) -> Result<T> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let there = File::open(format!("/run/netns/{}", self.name))?;
        setns(there, CloneFlags::CLONE_NEWNET)?;
        let done = deed.await;
        setns(home, CloneFlags::CLONE_NEWNET)?;
        Ok(done)
    }

    /// Our plane there, with the kernel as its peer.
    async fn plane(self, key: &PrivateKey, kernel: &PrivateKey, dials: bool) -> Result<Tunnel> {
        let settings = InterfaceSettings {
            name: "ours".to_owned(),
            private_key: key.clone(),
            listen: Some(([0, 0, 0, 0], OUR_PORT).into()),
            addresses: vec!["10.79.0.2/16".parse()?],
            mtu: 1420,
        };
        let tunnel = self
            .within(Tunnel::start_in_shape(settings, Shape::default()))
            .await??;
        let endpoint = format!("{}:{KERNEL_PORT}", self.near).parse()?;
        let peer = PeerSettings {
            public_key: kernel.public(),
            endpoint: dials.then_some(endpoint),
            allowed_ips: vec!["10.79.0.1/32".parse()?],
            keepalive_s: dials.then_some(1),
        };
        tunnel.set_peer(peer).await?;
        Ok(tunnel)
    }

    /// Gives so many connections there back what they send, after the first letter of the namespace.
    async fn echo(self, connections: usize) -> Result<JoinHandle<Result<()>>> {
        let listener = self
            .within(async { TcpListener::bind(INNER) })
            .await?
            .context("cannot listen")?;
        let serve = move || {
            for _ in 0..connections {
                let (mut from, _) = listener.accept()?;
                let mut to = from.try_clone()?;
                to.write_all(&self.name.as_bytes()[..1])?;
                std::io::copy(&mut from, &mut to)?;
            }
            Ok(())
        };
        Ok(std::thread::spawn(serve))
    }
}

fn kernel_settings(key: &PrivateKey) -> Result<InterfaceSettings> {
    Ok(InterfaceSettings {
        name: "kernel".to_owned(),
        private_key: key.clone(),
        listen: Some(([0, 0, 0, 0], KERNEL_PORT).into()),
        addresses: vec!["10.79.0.1/16".parse()?],
        mtu: 1420,
    })
}

fn peer(key: WireguardPublicKey, allowed: &[&str]) -> Result<PeerSettings> {
    let allowed: Result<Vec<IpNet>, _> = allowed.iter().map(|network| network.parse()).collect();
    Ok(PeerSettings {
        public_key: key,
        endpoint: None,
        allowed_ips: allowed?,
        keepalive_s: None,
    })
}

/// A mebibyte to 10.79.0.2 and back; gives the letter of who answered.
fn exchange() -> Result<u8> {
    let address: SocketAddr = INNER.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let bytes: Vec<u8> = (0..LENGTH).map(|number| (number * 31 % 251) as u8).collect();
    let mut sender = stream.try_clone()?;
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent));
    let (mut letter, mut back) = ([0], vec![0; LENGTH]);
    stream.read_exact(&mut letter)?;
    stream.read_exact(&mut back)?;
    ensure!(back == bytes, "what came back is not what was sent");
    sending.join().ok().context("the sender panicked")??;
    Ok(letter[0])
}

async fn carries(dialler: Dialler) -> Result<()> {
    let (theirs, ours) = (PrivateKey::generate(), PrivateKey::generate());
    let kernel = KernelTunnel::start(kernel_settings(&theirs)?).await?;
    let far = FAR.plane(&ours, &theirs, dialler == Dialler::Ours).await?;
    let endpoint: SocketAddr = format!("{}:{OUR_PORT}", FAR.far).parse()?;
    let mut settings = peer(ours.public(), &["10.79.0.2/32"])?;
    if dialler == Dialler::Kernel {
        settings.endpoint = Some(endpoint);
        settings.keepalive_s = Some(1);
    }
    kernel.set_mark(7)?;
    kernel.set_peer(&settings).await?;
    wait_for("the kernel's handshake", || shaken(&kernel, ours.public()))?;
    let echo = FAR.echo(1).await?;
    ensure!(exchange()? == b'f');
    echo.join().ok().context("the echo panicked")??;
    let [status] = &kernel.status()?[..] else {
        anyhow::bail!("the kernel has not one peer");
    };
    ensure!(
        status.endpoint == Some(endpoint),
        "the endpoint is {:?}",
        status.endpoint
    );
    ensure!(
        status.last_handshake.is_some_and(|ago| ago < PATIENCE),
        "{status:?}"
    );
    ensure!(
        status.received_bytes > LENGTH as u64 && status.sent_bytes > LENGTH as u64,
        "{status:?}"
    );
    let report = kernel.report()?;
    ensure!(
        report.mark == 7 && report.listen_port == KERNEL_PORT,
        "{report:?}"
    );
    ensure!(report.peers[0].allowed_ips == settings.allowed_ips, "{report:?}");
    ensure!(report.peers[0].keepalive_s == settings.keepalive_s, "{report:?}");
    drop((kernel, far));
    Ok(())
}

/// What the gateway does after an installation (docs/decisions/0004).
async fn swaps() -> Result<()> {
    let (theirs, installer, member) = (
        PrivateKey::generate(),
        PrivateKey::generate(),
        PrivateKey::generate(),
    );
    let kernel = KernelTunnel::start(kernel_settings(&theirs)?).await?;
    let _far = FAR.plane(&installer, &theirs, true).await?;
    kernel
        .set_peer(&peer(installer.public(), &["10.79.0.2/32"])?)
        .await?;
    kernel.set_peer(&peer(member.public(), &[])?).await?;
    wait_for("the installer's handshake", || {
        shaken(&kernel, installer.public())
    })?;
    let echo = FAR.echo(1).await?;
    ensure!(exchange()? == b'f', "the installer answers");
    echo.join().ok().context("the echo panicked")??;
    ensure!(!shaken(&kernel, member.public())?, "the member was not there yet");
    let _member = MEMBER.plane(&member, &theirs, true).await?;
    wait_for("the member's handshake", || shaken(&kernel, member.public()))?;
    let allowed = |key| {
        let report = kernel.report()?;
        let peer = report.peers.into_iter().find(|peer| peer.public_key == key);
        anyhow::Ok(peer.context("a peer is gone")?.allowed_ips.len())
    };
    ensure!(allowed(installer.public())? == 1 && allowed(member.public())? == 0);
    let echo = MEMBER.echo(1).await?;
    kernel
        .set_peer(&peer(member.public(), &["10.79.0.2/32"])?)
        .await?;
    ensure!(allowed(installer.public())? == 0 && allowed(member.public())? == 1);
    kernel.remove_peer(&installer.public())?;
    kernel.remove_peer(&installer.public())?;
    ensure!(exchange()? == b'm', "the member answers");
    echo.join().ok().context("the echo panicked")??;
    let keys: Vec<_> = kernel.status()?.iter().map(|peer| peer.public_key).collect();
    ensure!(keys == [member.public()]);
    Ok(())
}

async fn crowd() -> Result<()> {
    let key = PrivateKey::generate();
    let kernel = KernelTunnel::start(kernel_settings(&key)?).await?;
    let mut peers = Vec::new();
    for number in 0..CROWD {
        let [_, _, high, low] = number.to_be_bytes();
        let own = format!("10.79.{}.{low}/32", 16 + high);
        let further = format!("fd00::{number:x}/128");
        peers.push(peer(PrivateKey::generate().public(), &[&own, &further])?);
    }
    let many: Vec<_> = (0..2000)
        .map(|number| format!("10.79.{}.{}/32", 64 + number / 250, number % 250))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    peers.push(peer(PrivateKey::generate().public(), &many)?);
    kernel.set_peers(&peers).await?;
    let report = kernel.report()?;
    ensure!(
        report.peers.len() == peers.len(),
        "{} peers are there",
        report.peers.len()
    );
    for peer in &peers {
        let seen = report
            .peers
            .iter()
            .find(|seen| seen.public_key == peer.public_key);
        let mut seen = seen.context("a peer is missing")?.allowed_ips.clone();
        let mut wanted = peer.allowed_ips.clone();
        seen.sort();
        wanted.sort();
        ensure!(
            seen == wanted,
            "{} has {} AllowedIPs",
            peer.public_key,
            seen.len()
        );
    }
    for peer in &peers {
        kernel.remove_peer(&peer.public_key)?;
    }
    ensure!(kernel.status()?.is_empty());
    Ok(())
}

async fn leftovers() -> Result<()> {
    let (key, other) = (PrivateKey::generate(), PrivateKey::generate());
    KernelTunnel::start(kernel_settings(&key)?).await?.leave();
    ensure!(there(), "a device that was left is there");
    let taken = KernelTunnel::start(kernel_settings(&other)?).await.err();
    ensure!(matches!(taken, Some(KernelError::Taken { .. })), "{taken:?}");
    let plane = Plane::start(kernel_settings(&key)?, PlaneChoice::Auto).await?;
    ensure!(matches!(plane, Plane::Kernel(_)), "the kernel comes first");
    drop(plane);
    ensure!(!there(), "a device goes with its owner");
    KernelTunnel::start(kernel_settings(&key)?).await?.leave();
    let plane = Plane::start(kernel_settings(&key)?, PlaneChoice::User).await?;
    ensure!(matches!(plane, Plane::User(_)), "user space was asked for");
    let busy = KernelTunnel::start(kernel_settings(&key)?)
        .await
        .map_err(TunnelError::from);
    ensure!(busy.is_err(), "a TUN device is not taken away");
    Ok(())
}

fn there() -> bool {
    std::path::Path::new("/sys/class/net/kernel").exists()
}

fn shaken(kernel: &KernelTunnel, key: WireguardPublicKey) -> Result<bool> {
    let status = kernel.status()?;
    let peer = status.iter().find(|peer| peer.public_key == key);
    Ok(peer.context("the peer is gone")?.last_handshake.is_some())
}

fn wait_for(what: &str, mut held: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !held()? {
        ensure!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
