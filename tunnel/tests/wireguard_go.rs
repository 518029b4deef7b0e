//! Against somebody else's WireGuard: Debian's wireguard-go, over a veth pair between two network namespaces.
//!
//! The test runs itself again in user, network and mount namespaces of its own (unshare(1)), so it leaves nothing behind, and needs no more than a TUN device. In there a file goes to an echo at our end and comes back over one TCP
//! connection, which has both ends' planes split, join, encrypt and decrypt in both directions at once.
#![allow(clippy::unwrap_used)]

use leaseboot_tunnel::{InterfaceSettings, PeerSettings, PrivateKey, Shape, Tunnel};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const INSIDE: &str = "LEASEBOOT_TUNNEL_TEST_INSIDE";
const DONE: &str = "the test inside the namespaces came to its end";
const PATIENCE: Duration = Duration::from_secs(20);
const LENGTH: usize = 8 << 20;
const USUAL: Shape = Shape {
    workers: 2,
    offloads: true,
};

#[test]
fn a_file_crosses_and_comes_back() {
    inside("a_file_crosses_and_comes_back", async || {
        echo(USUAL, 1500, Dialler::Ours).await;
    });
}

#[test]
fn whoever_dials() {
    inside("whoever_dials", async || {
        echo(USUAL, 1500, Dialler::Theirs).await;
    });
}

#[test]
fn without_offloads_of_the_device() {
    inside("without_offloads_of_the_device", async || {
        let plain = Shape {
            workers: 1,
            offloads: false,
        };
        echo(plain, 1500, Dialler::Ours).await;
    });
}

#[test]
fn over_a_transit_that_is_too_narrow_for_a_whole_datagram() {
    inside(
        "over_a_transit_that_is_too_narrow_for_a_whole_datagram",
        async || echo(USUAL, 1300, Dialler::Ours).await,
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialler {
    Ours,
    Theirs,
}

fn inside(name: &str, test: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.unwrap().block_on(test());
        println!("{DONE}");
        return;
    }
    if let Err(error) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        // Some hosts keep it for root, and then only root can test this.
        return println!("not tested, because /dev/net/tun cannot be opened: {error}");
    }
    // The sockets of wireguard-go and the names of namespaces are in /run.
    let script = "mount -t tmpfs none /run && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--",
            "sh",
            "-c",
            script,
        ])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, of the package util-linux, is needed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains(DONE), "{said}");
}

/// Ours is 10.79.0.1 inside and 10.78.0.1 outside, theirs has 2 in place of 1.
async fn echo(shape: Shape, transit: u16, dialler: Dialler) {
    run(&format!(
        "ip link set lo up
         ip netns add peer
         ip link add transit type veth peer name transit netns peer
         ip link set transit mtu {transit} up
         ip address add 10.78.0.1/24 dev transit
         ip -n peer link set transit mtu {transit} up
         ip -n peer address add 10.78.0.2/24 dev transit"
    ));
    let (ours, theirs) = (PrivateKey::generate(), PrivateKey::generate());
    let their_endpoint: SocketAddr = "10.78.0.2:51822".parse().unwrap();
    let _wireguard_go = WireguardGo::start(&theirs, &ours, dialler);
    let settings = InterfaceSettings {
        name: "ours".to_owned(),
        private_key: ours,
        listen: Some("0.0.0.0:51821".parse().unwrap()),
        addresses: vec!["10.79.0.1/24".parse().unwrap()],
        mtu: 1420,
    };
    let tunnel = Tunnel::start_in_shape(settings, shape).await.unwrap();
    let peer = PeerSettings {
        public_key: theirs.public(),
        endpoint: (dialler == Dialler::Ours).then_some(their_endpoint),
        allowed_ips: vec!["10.79.0.2/32".parse().unwrap()],
        keepalive_s: (dialler == Dialler::Ours).then_some(1),
    };
    tunnel.set_peer(peer).await.unwrap();
    let file = sample();
    let served = std::thread::spawn(serve);
    let script = "
        exec 3<>/dev/tcp/10.79.0.1/7
        cat \"$0\" >&3 &
        head -c \"$1\" <&3 | cmp - \"$0\"";
    let client = Command::new("ip")
        .args(["netns", "exec", "peer", "bash", "-ec", script])
        .arg(&file)
        .arg(LENGTH.to_string())
        .output()
        .unwrap();
    assert!(
        client.status.success(),
        "{}",
        String::from_utf8_lossy(&client.stderr)
    );
    served.join().unwrap();
    let status = &tunnel.status()[0];
    assert!(status.received_bytes > LENGTH as u64 && status.sent_bytes > LENGTH as u64);
    assert_eq!(status.endpoint, Some(their_endpoint));
}

/// Gives one connection back what it sends.
fn serve() {
    let listener = TcpListener::bind("10.79.0.1:7").unwrap();
    let (mut from, _): (TcpStream, _) = listener.accept().unwrap();
    let mut to = from.try_clone().unwrap();
    let (mut buffer, mut left) = (vec![0; 64 << 10], LENGTH);
    while left > 0 {
        let length = from.read(&mut buffer).unwrap();
        assert!(length > 0, "the connection ended {left} bytes early");
        to.write_all(&buffer[..length]).unwrap();
        left -= length;
    }
}

/// A file in which no two stretches are alike.
fn sample() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sample-{}", std::process::id()));
    let bytes: Vec<u8> = (0..LENGTH as u32 / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

struct WireguardGo(Child);

impl WireguardGo {
    fn start(key: &PrivateKey, peer: &PrivateKey, dialler: Dialler) -> Self {
        let started = Command::new("ip")
            .args(["netns", "exec", "peer", "wireguard-go", "--foreground", "theirs"])
            .stdout(Stdio::null())
            .spawn();
        let process = Self(started.expect("ip, of the package iproute2, is needed"));
        let until = Instant::now() + PATIENCE;
        while !Path::new("/run/wireguard/theirs.sock").exists() {
            assert!(
                Instant::now() < until,
                "wireguard-go (of the package of this name) does not answer"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::write("/run/key", key.to_base64().expose()).unwrap();
        let peer = peer.public();
        let dials = match dialler {
            Dialler::Ours => "",
            Dialler::Theirs => "endpoint 10.78.0.1:51821 persistent-keepalive 1",
        };
        run(&format!(
            "ip netns exec peer wg set theirs private-key /run/key listen-port 51822 peer {peer} allowed-ips 10.79.0.1/32 {dials}
             ip -n peer address add 10.79.0.2/24 dev theirs
             ip -n peer link set theirs mtu 1420 up"
        ));
        process
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script} ended with {status}");
}
