//! The data planes of stage 2, each forced by what the installer's kernel is allowed to have. A kernel refuses a module that its command line forbids, as one that is built
//! without it lacks it.

use anyhow::{Context as _, Result};
use leaseboot_protocol::lease::{LeaseState, Step};
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, INSTALLATION, Plan};
use leaseboot_tests::namespace::Service;
use leaseboot_tests::network::{Network, REPOSITORY_ADDRESS};
use leaseboot_tests::pages;
use leaseboot_tests::tiny_image::{self, TINY};
use std::time::Duration;
use tokio::net::UdpSocket;

const NOT_KERNEL: &str = "module_blacklist=wireguard";
const NEITHER: &str = "module_blacklist=wireguard,tun";
const GRANTED: Duration = Duration::from_secs(60);
const MEMBER: &str = "10.99.0.10";
/// What the resolver of the laboratory knows.
const NAME: &str = "mirror.corp.example";

#[tokio::test]
async fn kernel_where_the_installers_kernel_has_wireguard() -> Result<()> {
    reaches_the_installer("planes-kernel", "", "data plane: kernel, the best there is").await
}

#[tokio::test]
async fn tun_where_it_has_a_tun_device_and_no_wireguard() -> Result<()> {
    reaches_the_installer("planes-tun", NOT_KERNEL, "data plane: tun, because of kernel").await
}

#[tokio::test]
async fn proxy_where_it_has_neither_and_it_carries_a_whole_installation() -> Result<()> {
    let plan = Plan::named("planes-proxy").image_words(NEITHER);
    plan.run(async |lab| {
        let mut borrowing = lab.borrow("web")?;
        let mut history = borrowing.during(Tenant::of(lab).follow(GRANTED)).await?;
        let note = history.wait_for_note(Step::Wrapper, "data plane: proxy", CHAIN);
        let note = borrowing.during(note).await?;
        assert!(note.contains("kernel (") && note.contains("tun ("), "{note}");
        let said = borrowing.in_service(INSTALLATION).await?;
        assert!(
            said.contains("data plane: proxy"),
            "the enterprise was not told:\n{said}"
        );
        let page = lab.page(MEMBER).await?;
        assert!(page.contains("enterprise web server web-1"), "{page}");
        Ok(())
    })
    .await
}

/// What an installer does that is told of a proxy, by hand: absolute form, CONNECT, a name, a port that nobody foretold, and what is outside.
#[tokio::test]
async fn proxy_speaks_http_resolves_names_and_leads_nowhere_else() -> Result<()> {
    const SCRIPT: &str = r#"
bb=/bin/busybox
$bb mkdir -p /etc
echo "nameserver 172.20.0.2" > /etc/resolv.conf
echo "scenario: env $http_proxy"
echo "scenario: absolute $($bb wget -q -O - http://mirror.corp.example:9123/ 2>&1)"
echo "scenario: address $($bb wget -q -O - http://172.20.0.2:9123/ 2>&1)"
echo "scenario: outside $($bb wget -O - http://192.0.2.1/ 2>&1 | $bb tr '\n' ' ')"
echo "scenario: connect $( (printf 'CONNECT mirror.corp.example:9123 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n'; $bb sleep 3) | $bb nc 127.0.0.1 3128 | $bb tail -n 1)"
unset http_proxy https_proxy
echo "scenario: transparent $($bb wget -q -O - http://172.20.0.2/plain 2>&1)"
echo "scenario: datagrams $($bb nslookup mirror.corp.example 172.20.0.2 2>&1 | $bb tr '\n' ' ')"
echo "scenario: closed $($bb wget -O - http://172.20.0.2:443/ 2>&1 | $bb tr '\n' ' ')"
echo "scenario: facts $($bb cat /run/leaseboot/facts.json)"
echo "scenario: all seen"
exec $bb poweroff -f
"#;
    let plan = Plan::named("planes-http").without_installer();
    plan.run(async |lab| {
        tiny_image::add_ending(&lab.po, SCRIPT, NEITHER).await?;
        let _page = serve_pages(&lab.network, 9123).await?;
        let _plain = serve_pages(&lab.network, 80).await?;
        let _names = serve_names(&lab.network).await?;
        let serial = lab.machine().serial().clone();
        let mut borrowing = lab.borrow(TINY)?;
        borrowing.during(serial.wait_for(tiny_image::SEEN, CHAIN)).await?;
        let told = serial.tail(usize::MAX);
        for expected in [
            "the gateway answers",
            "env http://127.0.0.1:3128",
            "absolute page of port 9123",
            "address page of port 9123",
            "connect page of port 9123",
            "transparent page of port 80",
            "\"proxy\":\"http://127.0.0.1:3128\"",
        ] {
            assert!(told.contains(expected), "nothing says {expected:?}:\n{told}");
        }
        let line = |what: &str| {
            let begin = format!("scenario: {what} ");
            let line = told.lines().find(|line| line.contains(&begin));
            line.map(str::to_owned)
                .with_context(|| format!("no line {begin:?}"))
        };
        assert!(line("outside")?.contains("403"), "{}", line("outside")?);
        assert!(
            line("datagrams")?.contains("172.20.0.2"),
            "{}",
            line("datagrams")?
        );
        // Nobody listens there: it must not look like an empty page.
        assert!(line("closed")?.contains("wget: "), "{}", line("closed")?);
        Ok(())
    })
    .await
}

/// Borrows, and looks at the plane that was chosen; ends where the installer begins.
async fn reaches_the_installer(name: &str, words: &'static str, expected: &str) -> Result<()> {
    let plan = Plan::named(name).image_words(words);
    plan.run(async |lab| {
        let mut borrowing = lab.borrow("web")?;
        let mut history = borrowing.during(Tenant::of(lab).follow(GRANTED)).await?;
        let told = borrowing.said().clone();
        let installing = async {
            history.wait_for_note(Step::Wrapper, expected, CHAIN).await?;
            history.wait_for_state(LeaseState::Installing, CHAIN).await?;
            told.wait_for(expected, CHAIN).await
        };
        borrowing.during(installing).await?;
        Ok(())
    })
    .await
}

/// A page inside the enterprise that names its port.
async fn serve_pages(network: &Network, port: u16) -> Result<Service> {
    pages::serve(network, port, format!("page of port {port}\n").into()).await
}

/// A name server inside the enterprise that knows one name: the answer to whatever is asked for it.
async fn serve_names(network: &Network) -> Result<Service> {
    let start = || async {
        let socket = UdpSocket::bind((REPOSITORY_ADDRESS, 53)).await?;
        Ok(((), async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = answer(&question[..length]);
                // Who asked may have gone.
                let _ = socket.send_to(&answer, from).await;
            }
        }))
    };
    Ok(network.repo.serve("names", start).await?.0)
}

/// RFC 1035, 4: the question again, and one address for [`NAME`]; for other names and types nothing.
fn answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    let wanted: Vec<u8> = NAME
        .split('.')
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap_or(0)], label.as_bytes()].concat())
        .chain([0, 0, 1, 0, 1])
        .collect();
    if answer.len() < 12 {
        return answer;
    }
    answer[2] |= 0x80;
    if answer[12..].starts_with(&wanted) {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(REPOSITORY_ADDRESS.octets());
    }
    answer
}
