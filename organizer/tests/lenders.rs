//! Two scripted lenders: who is asked, in which order, and what happens when one does not lend.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_console::socket;
use leaseboot_po::borrowing::BorrowingId;
use leaseboot_po::control::client::ControlClient;
use leaseboot_po::control::{BorrowRequest, server};
use leaseboot_po::organizer::Wish;
use leaseboot_po::progress::Note;
use leaseboot_protocol::leases::{Refusal, SearchAnswer};
use std::sync::Arc;
use support::lender::{ScriptedLender, one_server};
use support::{Enterprise, Running};
use tokio_util::sync::CancellationToken;

async fn borrow(po: &Running, lenders: &[&str]) -> BorrowingId {
    let wish = Wish {
        profile: "web".to_owned(),
        lenders: lenders.iter().map(|name| (*name).to_owned()).collect(),
        ..Wish::default()
    };
    po.organizer.borrow(wish).await.unwrap().id
}

fn requests(lender: &ScriptedLender) -> usize {
    lender.orders().iter().filter(|order| *order == "request").count()
}

/// Who lends, as `list` tells.
async fn lender_of(po: &Running, id: &BorrowingId) -> Option<String> {
    po.organizer.find(id.as_str()).await.unwrap().lender
}

fn granted(note: &Note) -> bool {
    matches!(note, Note::Granted { .. })
}

#[tokio::test]
async fn the_order_that_was_asked_for_decides_and_the_lease_stays_with_its_lender() {
    let enterprise = Enterprise::with_two_lenders().await;
    enterprise.lender.finds(one_server(9, 4));
    let po = enterprise.serve().await;
    let id = borrow(&po, &["south", "north"]).await;
    po.until(&id, granted).await;
    assert_eq!(lender_of(&po, &id).await.as_deref(), Some("south"));
    enterprise.second().ordered("boot l-1").await;
    po.stop().await;

    let po = enterprise.serve().await;
    po.organizer.release(id.as_str()).await.unwrap();
    enterprise.second().ordered("delete l-1").await;
    assert_eq!(
        enterprise.lender.orders(),
        ["search"],
        "the other one hears nothing more"
    );
    po.stop().await;
}

#[tokio::test]
async fn without_an_order_the_best_offer_is_taken() {
    let enterprise = Enterprise::with_two_lenders().await;
    enterprise.lender.finds(one_server(1, 4));
    enterprise.second().finds(one_server(5, 64));
    let po = enterprise.serve().await;
    let id = borrow(&po, &[]).await;
    let notes = po.until(&id, granted).await;
    assert_eq!(lender_of(&po, &id).await.as_deref(), Some("south"));
    let why = |note: &Note| matches!(note, Note::LenderChosen { why, .. } if why.contains("the best of 2 offers: rated 5"));
    assert!(notes.iter().any(why), "{notes:?}");
    po.stop().await;
}

#[tokio::test]
async fn a_refusal_goes_to_the_next_and_the_last_one_says_all() {
    let enterprise = Enterprise::with_two_lenders().await;
    let refusal = |message: &str| Refusal::Quota {
        message: message.to_owned(),
    };
    enterprise.lender.refuse(refusal("no more for acme"));
    let po = enterprise.serve().await;
    let id = borrow(&po, &["north", "south"]).await;
    let notes = po.until(&id, granted).await;
    let passed = |note: &Note| matches!(note, Note::LenderPassedOver { lender, why } if lender == "north" && why == "no more for acme");
    assert!(notes.iter().any(passed), "{notes:?}");
    assert_eq!(lender_of(&po, &id).await.as_deref(), Some("south"));

    enterprise.lender.refuse(refusal("no more for acme"));
    enterprise.second().finds(SearchAnswer::default());
    let id = borrow(&po, &["north", "south"]).await;
    let notes = po.until(&id, |note| matches!(note, Note::Failed { .. })).await;
    let Some(Note::Failed { reason }) = notes.last() else {
        panic!("{notes:?}");
    };
    assert!(
        reason.contains("north: no more for acme") && reason.contains("south: no free server fits"),
        "{reason}"
    );
    po.stop().await;
}

#[tokio::test]
async fn a_lender_that_is_away_is_not_waited_for() {
    let mut enterprise = Enterprise::with_two_lenders().await;
    // Its port answers no more once it is dropped.
    let bundle = enterprise.folder.path().join("lender");
    enterprise.lender = ScriptedLender::start(&bundle).await;
    enterprise.lender.url = format!("https://{}", support::lender::nobody().await);
    let po = enterprise.serve().await;
    let id = borrow(&po, &["north", "south"]).await;
    po.until(&id, granted).await;
    assert_eq!(lender_of(&po, &id).await.as_deref(), Some("south"));
    po.stop().await;
}

#[tokio::test]
async fn a_lender_whose_answer_was_lost_may_have_granted_and_is_asked_again() {
    let enterprise = Enterprise::with_two_lenders().await;
    enterprise.lender.ail(2);
    let po = enterprise.serve().await;
    let id = borrow(&po, &["north", "south"]).await;
    po.until(&id, granted).await;
    assert_eq!(lender_of(&po, &id).await.as_deref(), Some("north"));
    assert_eq!(requests(enterprise.second()), 0, "nothing is lent twice");
    po.stop().await;
}

#[tokio::test]
async fn who_borrows_may_name_the_lender_but_no_other_than_there_are() {
    let enterprise = Enterprise::with_two_lenders().await;
    let po = enterprise.serve().await;
    let socket = enterprise.folder.path().join("po.sock");
    let control = socket::bind(socket.clone()).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server::run(control, Arc::clone(&po.organizer), stop.clone()));
    let config = enterprise.folder.path().join("po.toml");
    let client = ControlClient::new(socket, &config).unwrap();
    let request = |lender: &str| BorrowRequest {
        profile: "web".to_owned(),
        hostname: None,
        lenders: vec![lender.to_owned()],
    };
    let refused = client.begin(&request("east")).await.unwrap_err().to_string();
    assert!(
        refused.contains("no lender \"east\"; it has north, south"),
        "{refused}"
    );
    let view = client.begin(&request("south")).await.unwrap();
    po.until(&view.id, granted).await;
    assert_eq!(lender_of(&po, &view.id).await.as_deref(), Some("south"));
    assert_eq!(requests(&enterprise.lender), 0, "the other one is not asked");
    stop.cancel();
    po.stop().await;
}
