//! What several Lease Managers on one database owe each other.

use super::*;
use std::time::Duration;

async fn booted(scratch: &Scratch, request: &str, server: &str) {
    let mut lease = taken(scratch.take(request, server).await);
    for event in [Event::SettingsMerged, Event::BootOrdered] {
        assert!(scratch.store.commit(&lease, change(&lease, event)).await.unwrap());
        lease = scratch.store.lease(&lease.id).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_change_is_heard_by_the_others() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let scratch = Scratch::postgres().await;
    let other = Store::open(&scratch.place).await.unwrap();
    let mut heard = other.work();
    // It counts once when it begins to listen, and then for each notice of work.
    for count in 1..=2 {
        tokio::time::timeout(PATIENCE, heard.wait_for(|heard| *heard >= count))
            .await
            .expect("a change to be heard")
            .unwrap();
        scratch.store.announce_work();
    }
    let lease = "lease-1".parse().unwrap();
    let mut following = other.follow(&lease);
    following.look();
    scratch.store.announce(&lease, false);
    tokio::time::timeout(PATIENCE, following.changed())
        .await
        .expect("the lease's change to be heard");
}

#[tokio::test]
async fn an_order_is_claimed_by_one_and_taken_over_when_its_claim_ends() {
    let scratch = Scratch::postgres().await;
    booted(&scratch, "one", "a").await;
    booted(&scratch, "two", "b").await;
    let other = Store::open(&scratch.place).await.unwrap();
    let (now, until) = (Timestamp(1_000_000), Timestamp(1_030_000));
    let ours = scratch.store.claim_power_orders(now, until).await.unwrap();
    assert_eq!(ours.len(), 2);
    assert!(other.claim_power_orders(now, until).await.unwrap().is_empty());
    assert_eq!(other.next_power_order(now).await.unwrap(), Some(until));
    // Whoever claimed them was killed.
    let later = Timestamp(1_030_001);
    let taken_over = other
        .claim_power_orders(later, Timestamp(1_060_000))
        .await
        .unwrap();
    assert_eq!(taken_over, ours);
    assert!(
        scratch
            .store
            .claim_power_orders(later, Timestamp(1_060_000))
            .await
            .unwrap()
            .is_empty()
    );
    other.release_power_orders().await.unwrap();
    assert_eq!(
        scratch
            .store
            .claim_power_orders(later, Timestamp(1_060_000))
            .await
            .unwrap(),
        ours
    );
}

#[tokio::test]
async fn the_only_one_finds_its_orders_again_after_a_restart() {
    let mut scratch = Scratch::sqlite().await;
    booted(&scratch, "one", "a").await;
    let (now, until) = (Timestamp(1_000_000), Timestamp(1_030_000));
    let ours = scratch.store.claim_power_orders(now, until).await.unwrap();
    scratch.reopen().await;
    assert_eq!(scratch.store.claim_power_orders(now, until).await.unwrap(), ours);
    assert_eq!(ours.len(), 1);
}
