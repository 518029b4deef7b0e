//! The PO as a process of its own, killed with SIGKILL in every state and at any other time. Lender, servers, DNS and people are this
//! process: they ask again where they got no answer.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use hickory_proto::rr::RecordType;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_po::control::BorrowRequest;
use leaseboot_po::events::{Labels, Status};
use leaseboot_po::policy::control::RaiseRequest;
use leaseboot_po::progress::Progress;
use leaseboot_protocol::lease::LeaseState;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::bind::Bind;
use support::killable::{Killable, serve_if_asked};
use support::{Enterprise, key};
use tokio::net::{TcpListener, TcpStream};

const LEASE: &str = "l-1";
/// Lives of the PO whose policy acts; together they are longer than its `for`.
const MOST_LIVES: u64 = 45;
const SHOP: &str = "shop.borrowed.example.";

#[test]
#[ignore = "it is the process that the other tests kill"]
fn the_po_that_is_killed() {
    serve_if_asked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_po_that_is_killed_in_any_state_goes_on_where_it_was() {
    let (po, bind) = start().await;
    let life = Life {
        po: &po,
        bind: &bind,
        kills: true,
    };
    life.whole().await;
    assert!(po.kills() >= 20, "{} kills", po.kills());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_po_that_is_killed_at_any_time_goes_on_where_it_was(lives in prop::collection::vec(1u64..40, 20..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(killed_after(&lives));
    }
}

/// Each of these milliseconds is how long one process may live; the last may live on.
async fn killed_after(lives: &[u64]) {
    let (po, bind) = start().await;
    let life = Life {
        po: &po,
        bind: &bind,
        kills: false,
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for life in lives {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(*life));
                po.kill_and_start();
            }
        });
        tokio::task::block_in_place(|| {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                tokio::runtime::Handle::current().block_on(life.whole());
            }));
            over.store(true, Ordering::Relaxed);
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
            println!("{} kills", po.kills());
        });
    });
}

const POLICY: &str = r#"
[[policy]]
name = "shop"
event = "Load"
profile = "web"
servers = 2
for = "1s"
quiet = "1h"
cooldown = "1s"
"#;

/// Each process lives a millisecond longer than the one before, so that some kills come between the decision, what is written of it, and each of the two borrowings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_po_that_is_killed_while_its_policy_acts_borrows_what_was_decided_and_no_more() {
    let enterprise = Enterprise::new().await;
    std::fs::write(enterprise.folder.path().join("policies.toml"), POLICY).unwrap();
    let po = Killable::start(enterprise, "");
    let raise = RaiseRequest {
        event: "Load".to_owned(),
        labels: Labels::default(),
        status: Status::Firing,
    };
    po.client().raise(&raise).await.unwrap();
    for life in 1..=MOST_LIVES {
        tokio::time::sleep(Duration::from_millis(life)).await;
        po.kill_and_start();
        let borrowings = po.list().await.map_or(0, |list| list.len());
        assert!(borrowings <= 2, "{borrowings} borrowings after {life} kills");
    }
    let both = async || matches!(po.list().await.as_deref(), Some([_, _]));
    po.until("both borrowings", &both).await;
    for lease in ["boot l-1", "boot l-2"] {
        let ordered = async || po.enterprise.lender.orders().iter().any(|order| order == lease);
        po.until(lease, ordered).await;
    }
    // Whoever asks again has the same names, so nothing was wanted twice.
    let told = po.client().explain(None).await.unwrap().text();
    assert_eq!(told.matches("decided").count(), 1, "{told}");
    assert_eq!(
        po.enterprise.lender.granted(),
        2,
        "{:?}",
        po.enterprise.lender.orders()
    );
    assert!(both().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_whose_answer_was_lost_is_taken_back_by_the_next_po() {
    let bind = Bind::start();
    let enterprise = Enterprise::new().await;
    enterprise.edit_profile("announce = { service = \"shop\" }\n");
    let folder = enterprise.folder.path().to_owned();
    let loses = Arc::new(AtomicBool::new(true));
    let between = between(bind.address(), Arc::clone(&loses)).await;
    let lines = bind
        .toml(&folder)
        .replace(&bind.address().to_string(), &between.to_string());
    let po = Killable::start(enterprise, &lines);
    let life = Life {
        po: &po,
        bind: &bind,
        kills: false,
    };
    life.borrowed().await;
    life.installs().await;
    life.joins().await;
    bind.becomes(SHOP, RecordType::A, &["127.0.0.10", "192.0.2.1"])
        .await;
    po.client().release("web-1", true).await.unwrap();
    loses.store(false, Ordering::Relaxed);
    po.kill_and_start();
    bind.becomes(SHOP, RecordType::A, &["192.0.2.1"]).await;
    bind.becomes("web-1.borrowed.example.", RecordType::A, &[]).await;
}

/// Somebody between PO and DNS who passes every update on, and no answer back as long as it `loses` them.
async fn between(bind: SocketAddr, loses: Arc<AtomicBool>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut po, _)) = socket.accept().await {
            let loses = loses.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut bind = TcpStream::connect(bind).await.unwrap();
                if loses {
                    let _ = tokio::io::copy(&mut po, &mut bind).await;
                } else {
                    let _ = tokio::io::copy_bidirectional(&mut po, &mut bind).await;
                }
            });
        }
    });
    address
}

async fn start() -> (Killable, Bind) {
    let bind = Bind::start();
    let enterprise = Enterprise::new().await;
    let folder = enterprise.folder.path().to_owned();
    let place = folder.display();
    let drain = format!(
        "cd {place}; echo $* >> drains; for i in $(seq 1000); do test -e drained && exit; sleep 0.02; done; exit 1"
    );
    enterprise.edit_profile(&format!(
        "announce = {{ service = \"shop\" }}\ndrain = {{ command = [\"/bin/sh\", \"-c\", \"{drain}\", \"drain\"], deadline = \"1m\" }}\n"
    ));
    let hook = format!("[announce]\nhook = [\"/bin/sh\", \"-c\", \"echo $* >> {place}/heard\", \"hook\"]\n");
    let lines = hook + &bind.toml(&folder);
    (Killable::start(enterprise, &lines), bind)
}

/// One borrowing from the wish to the erasure record.
struct Life<'a> {
    po: &'a Killable,
    bind: &'a Bind,
    /// Whether the PO is killed after every step.
    kills: bool,
}

impl Life<'_> {
    async fn whole(&self) {
        self.borrowed().await;
        self.installs().await;
        self.joins().await;
        self.is_announced().await;
        self.goes_back().await;
        self.nothing_is_lost().await;
    }

    fn kill(&self) {
        if self.kills {
            self.po.kill_and_start();
        }
    }

    fn stall(&self, order: &str) {
        self.po.enterprise.lender.stall(self.kills.then_some(order));
    }

    /// Waits for a state while the lender does not answer, kills the PO in it, and lets the lender answer.
    async fn killed_in(&self, state: &str) {
        if self.kills {
            self.state(state).await;
            self.kill();
            self.state(state).await;
        }
    }

    async fn state(&self, state: &str) {
        let so = async || matches!(self.po.list().await.as_deref(), Some([one]) if one.state == state);
        self.po.until(&format!("the state {state:?}"), so).await;
    }

    async fn peers(&self, peers: &str) {
        self.po
            .until(&format!("the peers {peers:?}"), async || {
                self.po.file("peers") == peers
            })
            .await;
    }

    async fn ordered(&self, order: &str) {
        let so = async || {
            self.po
                .enterprise
                .lender
                .orders()
                .iter()
                .any(|seen| seen == order)
        };
        self.po.until(&format!("the order {order:?}"), so).await;
    }

    async fn borrowed(&self) {
        self.stall("request");
        let begun = async || match self.po.list().await.as_deref() {
            // An answer may be lost: whoever lost one looks first.
            Some([]) => {
                let request = BorrowRequest {
                    profile: "web".to_owned(),
                    hostname: None,
                    lenders: Vec::new(),
                };
                self.po.client().begin(&request).await.is_ok()
            }
            Some(_) => true,
            None => false,
        };
        self.po.until("a borrowing", begun).await;
        self.killed_in("searching").await;
        self.stall("settings");
        self.killed_in("preparing").await;
        self.stall("boot");
        self.killed_in("ordering").await;
        self.po.enterprise.lender.stall(None);
        self.ordered("boot l-1").await;
        self.kill();
    }

    async fn installs(&self) {
        let lender = &self.po.enterprise.lender;
        lender.moves(LEASE, LeaseState::Booting);
        self.state("booting").await;
        self.kill();
        lender.moves(LEASE, LeaseState::Stage1);
        lender.agent_key(LEASE, key(1));
        self.peers("1 127.0.0.10\n").await;
        self.kill();
        self.peers("1 127.0.0.10\n").await;
        self.po
            .until("sealed values", async || {
                self.po.server().asks("/v1/sealed").await == Some(200)
            })
            .await;
        for (state, name) in [
            (LeaseState::TunnelUp, "tunnel up"),
            (LeaseState::Chained, "chained"),
            (LeaseState::Installing, "installing"),
        ] {
            lender.moves(LEASE, state);
            self.state(name).await;
            self.kill();
        }
    }

    async fn joins(&self) {
        self.stall("installed");
        for _ in 0..2 {
            // The installer asks again when it got no answer.
            let registered = async || self.po.server().registers(key(2)).await == Some(200);
            self.po.until("the member's registration", registered).await;
            self.kill();
        }
        self.peers("1 127.0.0.10\n2\n").await;
        self.killed_in("installed").await;
        self.po.enterprise.lender.stall(None);
        self.ordered("installed l-1").await;
        self.kill();
        self.po.shake(2);
        self.peers("2 127.0.0.10\n").await;
        self.state("joining").await;
        self.kill();
        self.peers("2 127.0.0.10\n").await;
        self.stall("in-service");
        self.po
            .until("the member's hello", async || {
                self.po.server().greets().await == Some(204)
            })
            .await;
        self.killed_in("in service").await;
        self.po.enterprise.lender.stall(None);
        self.ordered("in-service l-1").await;
        self.kill();
    }

    async fn is_announced(&self) {
        self.bind
            .becomes(SHOP, RecordType::A, &["127.0.0.10", "192.0.2.1"])
            .await;
        let hosts = async || self.po.file("hosts").contains("127.0.0.10 web-1\n");
        self.po.until("the hosts fragment", hosts).await;
        self.po
            .until("the hook", async || {
                self.po.file("heard").contains("in-service web-1 127.0.0.10\n")
            })
            .await;
        self.kill();
    }

    async fn goes_back(&self) {
        let asked = async || match self.po.list().await.as_deref() {
            Some([one]) if one.state != "in service" => true,
            Some(_) => self.po.client().release("web-1", false).await.is_ok(),
            None => false,
        };
        self.po.until("the release", asked).await;
        self.po
            .until("the drain", async || {
                self.po.file("drains").contains("drain web-1 127.0.0.10\n")
            })
            .await;
        self.killed_in("draining").await;
        self.peers("2 127.0.0.10\n").await;
        self.stall("delete");
        std::fs::write(self.po.folder().join("drained"), "").unwrap();
        self.killed_in("returning").await;
        self.peers("").await;
        self.stall("erasure");
        self.ordered("delete l-1").await;
        self.killed_in("wiping").await;
        self.po.enterprise.lender.stall(None);
        self.state("released").await;
        self.kill();
    }

    async fn nothing_is_lost(&self) {
        self.bind.becomes(SHOP, RecordType::A, &["192.0.2.1"]).await;
        self.bind
            .becomes("web-1.borrowed.example.", RecordType::A, &[])
            .await;
        self.bind
            .becomes("10.0.0.127.in-addr.arpa.", RecordType::PTR, &[])
            .await;
        let hosts = async || self.po.file("hosts").lines().count() == 1;
        self.po.until("an empty hosts fragment", hosts).await;
        self.po
            .until("the hook's last word", async || {
                self.po.file("heard").ends_with("gone web-1 127.0.0.10\n")
            })
            .await;
        let heard = self.po.file("heard");
        let last_come = heard.rfind("in-service").unwrap();
        assert!(last_come < heard.find("gone").unwrap(), "{heard}");
        self.peers("").await;
        let lender = &self.po.enterprise.lender;
        assert_eq!(
            lender.granted(),
            1,
            "a second lease was asked for: {:?}",
            lender.orders()
        );
        self.state("released").await;
        let mut notes = None;
        while notes.is_none() {
            notes = self.notes().await;
        }
        let (view, notes) = notes.unwrap();
        let positions: Vec<_> = notes.iter().map(|note| note.sequence).collect();
        assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>());
        let count = |name: &str| {
            let named = |note: &&Progress| serde_json::to_value(note).unwrap()["note"] == name;
            notes.iter().filter(named).count()
        };
        for once in [
            "created",
            "granted",
            "agreed",
            "ordered",
            "member-key",
            "member-seen",
            "in-service",
            "releasing",
            "drained",
            "erasure",
            "over",
        ] {
            assert_eq!(count(once), 1, "{once} in {notes:#?}");
        }
        assert!(view.erasure.unwrap().is_proven());
    }

    /// The borrowing with all of its notes, when the PO lives for long enough.
    async fn notes(&self) -> Option<(BorrowingView, Vec<Progress>)> {
        let view = self.po.client().find("web-1").await.ok()?;
        let mut stream = self.po.client().follow(&view.id, 0).await.ok()?;
        let mut notes = Vec::new();
        while let Some(note) = stream.next().await.ok()? {
            notes.push(note);
        }
        Some((view, notes))
    }
}
