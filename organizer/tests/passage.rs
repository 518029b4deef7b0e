//! The gateway's doors in a kernel: two lent servers, a gateway and an enterprise as network namespaces, with real nft between them.
#![allow(missing_docs, clippy::unwrap_used)]

use leaseboot_po::borrowing::Order;
use leaseboot_po::borrowing::machine::State;
use leaseboot_po::passage::{InstallServer, Passage, Protocol};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const INSIDE: &str = "LEASEBOOT_TEST_IN_NAMESPACE";
const DONE: &str = "the test inside the namespace came to its end";
const PATIENCE: Duration = Duration::from_secs(20);
const PACKAGES: &str = "172.20.0.2";
const OFFICE: &str = "172.20.0.3";
const FIRST: &str = "10.99.0.10";
const SECOND: &str = "10.99.0.11";

/// Runs `inside` in namespaces of its own, in a process of its own; `name` is the name of the calling test.
fn in_a_namespace(name: &str, inside: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.unwrap().block_on(inside());
        println!("{DONE}");
        return;
    }
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, of the package util-linux, is needed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains(DONE), "{said}");
}

fn shell(script: &str) {
    let output = Command::new("sh").args(["-euc", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The device that packets of lent servers come from is a wire here, called as the tunnel would be.
const WIRES: &str = "
    mount -t tmpfs none /run
    ip link set lo up
    ip netns add servers
    ip netns add enterprise
    ip link add leaseboot0 type veth peer name wire netns servers
    ip link add lan type veth peer name wire netns enterprise
    ip address add 10.99.0.1/24 dev leaseboot0
    ip address add 172.20.0.1/24 dev lan
    ip link set leaseboot0 up
    ip link set lan up
    for address in 10.99.0.10 10.99.0.11; do ip -n servers address add $address/24 dev wire; done
    ip -n servers link set wire up
    ip -n servers route add 172.20.0.0/24 via 10.99.0.1
    for address in 172.20.0.2 172.20.0.3; do ip -n enterprise address add $address/24 dev wire; done
    ip -n enterprise link set wire up
    ip -n enterprise route add 10.99.0.0/24 via 172.20.0.1
    echo 1 > /proc/sys/net/ipv4/ip_forward
";

/// Echoes lines on these ports of every address of a namespace, until it is killed.
const ECHO: &str = "
import socketserver, sys, threading
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
servers = [Server(('0.0.0.0', int(port)), Echo) for port in sys.argv[1:]]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print('ready', flush=True)
servers[0].serve_forever()
";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(namespace: &str, program: &[&str]) -> Running {
    let child = match namespace {
        "gateway" => Command::new(program[0])
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn(),
        other => Command::new("ip")
            .args(["netns", "exec", other])
            .args(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn(),
    };
    Running(child.unwrap())
}

fn echo(namespace: &str, ports: &[&str]) -> Running {
    let mut running = program(namespace, &[&["python3", "-c", ECHO][..], ports].concat());
    let mut line = String::new();
    BufReader::new(running.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    running
}

/// Says `hello` from an address and hears it; the rest of the conversation is the caller's.
const DIAL: &str = "
import socket, sys
sender, to, port = sys.argv[1:]
peer = socket.create_connection((to, int(port)), timeout=3, source_address=(sender, 0))
peer.settimeout(3)
for line in sys.stdin:
    peer.sendall(line.encode())
    print(peer.recv(100).decode(), end='', flush=True)
";

struct Conversation {
    running: Running,
    answers: BufReader<std::process::ChildStdout>,
}

impl Conversation {
    fn begin(namespace: &str, from: &str, to: &str, port: &str) -> Self {
        let mut running = program(namespace, &["python3", "-c", DIAL, from, to, port]);
        let answers = BufReader::new(running.0.stdout.take().unwrap());
        Self { running, answers }
    }

    /// Whether a line comes back.
    fn goes_on(&mut self) -> bool {
        let said = self.running.0.stdin.as_mut().unwrap().write_all(b"hello\n");
        let mut line = String::new();
        said.is_ok() && self.answers.read_line(&mut line).is_ok() && line == "hello\n"
    }
}

fn reaches(namespace: &str, from: &str, to: &str, port: &str) -> bool {
    Conversation::begin(namespace, from, to, port).goes_on()
}

/// Says which of these places answer.
const PROBE: &str = "
import socket, sys
for place in sys.argv[2:]:
    to, port = place.split(':')
    try:
        peer = socket.create_connection((to, int(port)), timeout=3, source_address=(sys.argv[1], 0))
        peer.settimeout(3)
        peer.sendall(b'hello')
        peer.shutdown(socket.SHUT_WR)
        if peer.recv(100) == b'hello':
            print(place)
    except OSError:
        pass
";

const PLACES: [&str; 7] = [
    "172.20.0.2:80",
    "172.20.0.2:81",
    "172.20.0.2:3001",
    "172.20.0.3:80",
    "172.20.0.1:22",
    "10.99.0.1:22",
    SERVICE,
];

/// Which of the places a lent server reaches.
fn reached(from: &str) -> Vec<String> {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", "servers", "python3", "-c", PROBE, from])
        .args(PLACES);
    let output = command.output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn order(address: &str) -> Order {
    let blob = json!({ "path": "/x", "size": 1, "sha256": "0".repeat(64) });
    let key = leaseboot_protocol::network::WireguardPublicKey([0; 32]);
    serde_json::from_value(json!({
        "request_id": "r", "requirements": {}, "kernel": "vmlinuz", "initrd": "initrd.img", "sealed": {},
        "settings": {
            "profile": "web", "hostname": "web-1", "kickstart": "", "kickstart_origin": "", "sealed": [],
            "tunnel": {
                "address": format!("{address}/24"), "gateway_endpoint": "198.51.100.2:51820", "gateway_public_key": key,
                "allowed_ips": ["10.99.0.0/24", "172.20.0.0/24"], "gateway_service": "10.99.0.1:80", "mtu": 1420, "keepalive_s": 15
            },
            "image": { "kernel": blob, "initrd": blob, "command_line": "" }, "min_memory_mib": 512
        }
    }))
    .unwrap()
}

fn state(name: &str) -> State {
    let key = |n| leaseboot_protocol::network::WireguardPublicKey([n; 32]);
    let boot = json!({ "lease": "l-1", "server": "s-1", "kickstart_sha256": "0".repeat(64) });
    let value = match name {
        "searching" => json!({ "state": "searching" }),
        "chained" => json!({ "state": "transferring", "boot": boot, "stage": "chained", "agent": key(1) }),
        _ => {
            json!({ "state": name, "boot": boot, "agent": key(1), "member": key(2), "owed": { "installed": false, "in_service": false } })
        }
    };
    serde_json::from_value(value).unwrap()
}

fn passage() -> Passage {
    let service: SocketAddrV4 = "10.99.0.1:80".parse().unwrap();
    let packages = InstallServer {
        name: "packages".to_owned(),
        address: PACKAGES.parse().unwrap(),
        protocol: Protocol::Tcp,
        ports: vec![(80, 80), (3000, 3010)],
    };
    Passage::guarded("leaseboot0", service, vec![packages])
}

async fn moves(passage: &Passage, order: &Order, from: &str, to: &str) {
    passage.close(order, &state(from), &state(to)).await;
    passage.open(order, &state(to)).await;
}

const SERVICE: &str = "10.99.0.1:80";

#[test]
fn each_server_passes_by_its_own_state_and_not_a_packet_longer() {
    in_a_namespace(
        "each_server_passes_by_its_own_state_and_not_a_packet_longer",
        async || {
            shell(WIRES);
            let _echoes = [
                echo("enterprise", &["80", "81", "3001"]),
                echo("gateway", &["80", "22"]),
                echo("servers", &["80"]),
            ];
            assert_eq!(reached(FIRST).len(), 7, "without doors everything passes");
            let passage = passage();
            let order = order(FIRST);
            passage
                .begin([(&order, &state("searching"))].into_iter())
                .await
                .unwrap();
            assert_eq!(reached(FIRST), [SERVICE]);
            assert!(!reaches("enterprise", OFFICE, FIRST, "80"));

            moves(&passage, &order, "searching", "chained").await;
            assert_eq!(reached(FIRST), ["172.20.0.2:80", "172.20.0.2:3001", SERVICE]);
            assert_eq!(reached(SECOND), [SERVICE], "the door is one server's");
            assert!(!reaches("enterprise", OFFICE, FIRST, "80"));
            let mut download = Conversation::begin("servers", FIRST, PACKAGES, "80");
            assert!(download.goes_on());
            moves(&passage, &order, "chained", "installed").await;
            assert!(
                download.goes_on(),
                "a change that leaves the door open cuts nothing"
            );

            moves(&passage, &order, "installed", "in-service").await;
            assert_eq!(reached(FIRST).len(), 7, "a member reaches its networks");
            assert!(reaches("enterprise", OFFICE, FIRST, "80"), "and is reached");
            assert!(!reaches("enterprise", OFFICE, SECOND, "80"));
            let mut service = Conversation::begin("enterprise", OFFICE, FIRST, "80");
            assert!(service.goes_on());

            moves(&passage, &order, "in-service", "searching").await;
            assert_eq!(reached(FIRST), [SERVICE]);
            assert!(!download.goes_on(), "what was going on ends with its door");
            assert!(!reaches("enterprise", OFFICE, FIRST, "80"));
        },
    );
}

#[test]
fn a_start_takes_up_what_is_needed_and_takes_away_what_is_stale() {
    in_a_namespace(
        "a_start_takes_up_what_is_needed_and_takes_away_what_is_stale",
        async || {
            shell(WIRES);
            let _echo = echo("enterprise", &["80"]);
            let (first, second) = (order(FIRST), order(SECOND));
            let before = passage();
            before
                .begin([(&first, &state("chained")), (&second, &state("chained"))].into_iter())
                .await
                .unwrap();
            let mut download = Conversation::begin("servers", FIRST, PACKAGES, "80");
            assert!(download.goes_on() && reaches("servers", SECOND, PACKAGES, "80"));
            // The process ends, and the next one reads that one server went away meanwhile.
            let after = passage();
            after
                .begin([(&first, &state("chained")), (&second, &state("searching"))].into_iter())
                .await
                .unwrap();
            assert!(download.goes_on(), "a restart cuts no installation short");
            assert!(!reaches("servers", SECOND, PACKAGES, "80"));

            // Somebody restarts the host's own firewall.
            shell("nft flush ruleset");
            assert!(reaches("servers", SECOND, PACKAGES, "80"));
            let stop = CancellationToken::new();
            let looked = tokio::spawn({
                let (after, stop) = (after.clone(), stop.clone());
                async move { after.look_after(stop).await }
            });
            let began = Instant::now();
            while reaches("servers", SECOND, PACKAGES, "80") {
                assert!(began.elapsed() < PATIENCE, "nobody made the table again");
            }
            assert!(reaches("servers", FIRST, PACKAGES, "80"));
            stop.cancel();
            looked.await.unwrap();
        },
    );
}

#[test]
fn without_install_servers_too_a_member_reaches_what_its_profile_says() {
    in_a_namespace(
        "without_install_servers_too_a_member_reaches_what_its_profile_says",
        async || {
            shell(WIRES);
            let _echoes = [
                echo("enterprise", &["80", "81", "3001"]),
                echo("gateway", &["80", "22"]),
                echo("servers", &["80"]),
            ];
            let prepared = Passage::prepare("leaseboot0", SERVICE.parse().unwrap(), &[]).await;
            let passage = prepared.unwrap();
            let mut narrow = order(FIRST);
            narrow.membership.network.reach = Some(vec!["172.20.0.3/32".parse().unwrap()]);
            let usual = order(SECOND);
            let begin = [(&narrow, &state("searching")), (&usual, &state("searching"))];
            passage.begin(begin.into_iter()).await.unwrap();
            assert_eq!(reached(FIRST), [SERVICE], "nothing before it installs");

            moves(&passage, &narrow, "searching", "chained").await;
            moves(&passage, &usual, "searching", "in-service").await;
            assert_eq!(reached(FIRST).len(), 7, "the installer has the tunnel's networks");
            assert_eq!(reached(SECOND).len(), 7, "and so has who has no other ones");
            moves(&passage, &narrow, "chained", "in-service").await;
            assert_eq!(reached(FIRST), ["172.20.0.3:80", "10.99.0.1:22", SERVICE]);
            assert!(reaches("enterprise", OFFICE, FIRST, "80"), "and is reached");
            // Its answers go wherever the question came from.
            assert!(reaches("enterprise", PACKAGES, FIRST, "80"));

            // The next process knows it from the state.
            let next = Passage::prepare("leaseboot0", SERVICE.parse().unwrap(), &[]).await;
            let again = [(&narrow, &state("in-service"))];
            next.unwrap().begin(again.into_iter()).await.unwrap();
            assert_eq!(reached(FIRST), ["172.20.0.3:80", "10.99.0.1:22", SERVICE]);
            assert_eq!(reached(SECOND), [SERVICE], "who is on no record reaches nothing");
        },
    );
}

#[test]
fn what_nft_refuses_is_told_and_made_good() {
    in_a_namespace("what_nft_refuses_is_told_and_made_good", async || {
        shell(WIRES);
        let order = order(FIRST);
        let passage = passage();
        passage
            .begin([(&order, &state("searching"))].into_iter())
            .await
            .unwrap();
        let elements = || {
            let listed = Command::new("nft")
                .args(["list", "set", "inet", "leaseboot_po_leaseboot0", "installs"])
                .output()
                .unwrap();
            String::from_utf8(listed.stdout).unwrap().matches(FIRST).count()
        };
        // A change of a table that is gone is refused, and the next one makes it whole.
        shell("nft flush ruleset");
        moves(&passage, &order, "searching", "chained").await;
        moves(&passage, &order, "chained", "chained").await;
        assert_eq!(elements(), 2);
    });
}
