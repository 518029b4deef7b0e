//! The laboratory itself: what it promises to the scenarios.

use anyhow::{Context as _, Result};
use leaseboot_tests::capture::Capture;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::machine::{Bus, Disk, Firmware, Hardware, Machine, NetworkBoot, NicModel, Power};
use leaseboot_tests::namespace::{Namespace, Service};
use leaseboot_tests::network::{GATEWAY_ADDRESS, GATEWAY_PORT, LM_ADDRESS, Network, REPOSITORY_ADDRESS};
use leaseboot_tests::redfish::{Redfish, USER};
use leaseboot_tests::tiny_image;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const REACHABLE: Duration = Duration::from_secs(10);
/// How long a packet that the firewall drops is waited for: the scenario shows that it was dropped by the firewall's counter.
const TURNED_AWAY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn the_firewall_lets_only_the_tunnel_in() -> Result<()> {
    let network = Network::build().await?;
    let _gateway = listen_tcp(&network.enterprise, 8080).await?;
    let _lm = listen_tcp(&network.lender, 8443).await?;
    let _tunnel = echo_udp(&network.enterprise, GATEWAY_PORT).await?;
    let _other = echo_udp(&network.enterprise, 53).await?;

    connect(&network.enterprise, LM_ADDRESS, 8443, REACHABLE)
        .await
        .context("enterprise to LM")?;
    ask_udp(&network.lender, GATEWAY_PORT, REACHABLE)
        .await
        .context("lender to the tunnel's port")?;
    connect(&network.office, GATEWAY_ADDRESS, 8080, REACHABLE)
        .await
        .context("inside the enterprise")?;

    network.set_gateway_reachable(false).await?;
    assert!(ask_udp(&network.lender, GATEWAY_PORT, TURNED_AWAY).await.is_err());
    network.set_gateway_reachable(true).await?;
    ask_udp(&network.lender, GATEWAY_PORT, REACHABLE)
        .await
        .context("after the outage")?;

    let before = network.turned_away().await?;
    assert!(
        connect(&network.lender, GATEWAY_ADDRESS, 8080, TURNED_AWAY)
            .await
            .is_err()
    );
    assert!(ask_udp(&network.lender, 53, TURNED_AWAY).await.is_err());
    assert!(
        connect(&network.lender, REPOSITORY_ADDRESS, 80, TURNED_AWAY)
            .await
            .is_err()
    );
    // Nor does an address of the inside come out.
    assert!(
        connect(&network.office, LM_ADDRESS, 8443, TURNED_AWAY)
            .await
            .is_err()
    );
    assert!(network.turned_away().await? >= before + 3);
    Ok(())
}

#[tokio::test]
async fn laboratories_stand_side_by_side_and_leave_nothing() -> Result<()> {
    let (one, two) = tokio::try_join!(Network::build(), Network::build())?;
    let names = [&one, &two].map(|network| network.lender.name().to_owned());
    assert_ne!(names[0], names[1]);
    drop((one, two));
    for name in names {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name} is left");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "the victim of the next test"]
async fn victim() -> Result<()> {
    let network = Network::build().await?;
    let mut sleeper = network.office.command("sleep").arg("1000").spawn()?;
    println!(
        "victim {} {}",
        network.office.name(),
        sleeper.id().context("no process")?
    );
    sleeper.wait().await?;
    Ok(())
}

#[test]
fn a_killed_laboratory_is_cleaned_up() -> Result<()> {
    let mut killed = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = std::io::BufReader::new(killed.stdout.take().context("no output")?).lines();
    let line = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("victim lb")?.1.to_owned()))
        .context("the victim said nothing")?;
    let (namespace, sleeper) = line.split_once(' ').context("the victim said half")?;
    let left = [format!("/run/netns/lb{namespace}"), format!("/proc/{sleeper}")];
    assert!(left.iter().all(|path| Path::new(path).exists()));
    killed.kill()?;
    killed.wait()?;
    let deadline = Instant::now() + REACHABLE;
    while let Some(path) = left.iter().find(|path| Path::new(path).exists()) {
        assert!(Instant::now() < deadline, "{path} is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[tokio::test]
async fn a_bare_server_obeys_its_controller_and_asks_the_bridge_for_a_boot() -> Result<()> {
    let folders = Folders::find()?;
    let run = folders.scenario("laboratory")?;
    let folder = run.path();
    let network = Network::build().await?;
    let capture = Capture::start(&network, folder).await?;
    let mac = "52:54:00:00:00:01".parse()?;
    let hardware = Hardware {
        name: "lab0001".to_owned(),
        mac,
        firmware: Firmware::Bios,
        network_boot: NetworkBoot::default(),
        nic: NicModel::Virtio,
        unwired: [0, 0],
        memory_mib: 512,
        cores: 1,
        disks: vec![Disk::new(Bus::Virtio, "LAB0001", 1024)],
    };
    let machine = Machine::install(&network, hardware, folder).await?;
    let redfish = Redfish::start(&network, vec![machine.clone()], &folders, folder).await?;
    let power = PowerByCurl {
        lender: &network.lender,
        password: std::fs::read_to_string(redfish.password_file())?,
        system: redfish.system("lab0001"),
    };

    assert!(power.get().await?.contains(r#""PowerState": "Off""#));
    power.reset("On").await?;
    assert_eq!(machine.power(), Power::On);
    machine.serial().wait_for("iPXE", Duration::from_secs(60)).await?;
    // Nobody answers; what counts is that it asked.
    machine
        .serial()
        .wait_for("No configuration methods", Duration::from_secs(120))
        .await?;
    assert!(power.get().await?.contains(r#""PowerState": "On""#));
    power.reset("ForceRestart").await?;
    assert_eq!(machine.starts(), 2);
    power.reset("ForceOff").await?;
    assert_eq!(machine.power(), Power::Off);

    let packets = capture.stop().await?;
    let discover = [&mac.0[..], &[0; 10]].concat();
    assert!(
        !packets.find(&discover).is_empty(),
        "no DHCP message with the card's address"
    );
    Ok(())
}

struct PowerByCurl<'a> {
    lender: &'a Namespace,
    password: String,
    system: String,
}

impl PowerByCurl<'_> {
    async fn get(&self) -> Result<String> {
        let user = format!("{USER}:{}", self.password.trim());
        self.lender
            .run("curl", &["-sSf", "-u", &user, &self.system])
            .await
    }

    async fn reset(&self, kind: &str) -> Result<()> {
        let user = format!("{USER}:{}", self.password.trim());
        let url = format!("{}/Actions/ComputerSystem.Reset", self.system);
        let body = format!(r#"{{"ResetType": "{kind}"}}"#);
        let json = "Content-Type: application/json";
        self.lender
            .run("curl", &["-sSf", "-u", &user, "-H", json, "-d", &body, &url])
            .await
            .map(drop)
    }
}

async fn listen_tcp(namespace: &Namespace, port: u16) -> Result<Service> {
    let start = move || async move {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        Ok(((), async move { while listener.accept().await.is_ok() {} }))
    };
    let (service, ()) = namespace.serve("listener", start).await?;
    Ok(service)
}

async fn echo_udp(namespace: &Namespace, port: u16) -> Result<Service> {
    let start = move || async move {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let echo = async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                drop(socket.send_to(&buffer[..length], from).await);
            }
        };
        Ok(((), echo))
    };
    let (service, ()) = namespace.serve("echo", start).await?;
    Ok(service)
}

async fn connect(from: &Namespace, to: Ipv4Addr, port: u16, within: Duration) -> Result<()> {
    let errand = move || async move {
        timeout(within, TcpStream::connect((to, port))).await??;
        Ok(())
    };
    from.visit("connect", errand).await
}

async fn ask_udp(from: &Namespace, port: u16, within: Duration) -> Result<()> {
    let errand = move || async move {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect((GATEWAY_ADDRESS, port)).await?;
        socket.send(b"anybody there?").await?;
        timeout(within, socket.recv(&mut [0; 64])).await??;
        Ok(())
    };
    from.visit("ask", errand).await
}

#[tokio::test]
async fn the_tiny_image_has_what_the_wrapper_needs() -> Result<()> {
    let archive = tiny_image::archive(&Folders::find()?, 1 << 20).await?;
    assert!(archive.len() > 1 << 20);
    for packing in tiny_image::Packing::ALL {
        let packed = packing.pack(&archive).await?;
        assert!(
            packed.len() > 1 << 20,
            "{packing:?} shrank the noise to {} bytes",
            packed.len()
        );
    }
    for file in [
        "virtio_net.ko",
        "tun.ko",
        "modules.dep",
        "modules.alias",
        "bin/busybox",
    ] {
        assert!(
            memchr::memmem::find(&archive, file.as_bytes()).is_some(),
            "no {file}"
        );
    }
    Ok(())
}
