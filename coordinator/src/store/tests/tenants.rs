//! Tenants and the audit log, on both back ends.

use super::{NOW, Scratch, new_lease};
use crate::audit::{Deed, Verifier};
use crate::store::{NewInvitation, Redemption, Store, Taken};
use crate::tenants::Terms;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::timestamp::Timestamp;
use tokio::task::JoinSet;

on_both_back_ends!(
    deeds_at_once_make_one_chain,
    a_quota_holds_for_requests_at_once,
    an_invitation_is_good_once_in_its_time_for_its_secret,
);

async fn verify(store: &Store) -> u64 {
    let head = store.audit_head().await.unwrap();
    let mut verifier = Verifier::default();
    for entry in store.audit_entries(0, 1000).await.unwrap() {
        verifier.follow(&entry).unwrap();
    }
    verifier.end(&head).unwrap().sequence
}

async fn deeds_at_once_make_one_chain(scratch: Scratch) {
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = scratch.store.clone();
        writers.spawn(async move {
            for number in 0..5 {
                let deed = Deed::of_manager(format!("deed {number} of writer {writer}"));
                store.write_audit(&deed, NOW).await.unwrap();
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    assert_eq!(verify(&scratch.store).await, 40);
}

async fn a_quota_holds_for_requests_at_once(scratch: Scratch) {
    let lease = new_lease("one", "a");
    let tenant = lease.tenant.clone();
    let (store, deed) = (&scratch.store, Deed::of_manager("test"));
    store
        .add_tenant(&tenant, &Sha256::of(b"certificate"), &deed, NOW)
        .await
        .unwrap();
    let terms = Terms {
        servers: Some(1),
        ..Terms::default()
    };
    assert!(store.set_terms(&tenant, &terms, &deed, NOW).await.unwrap());
    let (one, other) = tokio::join!(store.take(lease, NOW), store.take(new_lease("two", "b"), NOW));
    let outcomes = [one.unwrap(), other.unwrap()];
    let new = outcomes
        .iter()
        .filter(|taken| matches!(taken, Taken::New(_)))
        .count();
    let over = outcomes
        .iter()
        .filter(|taken| matches!(taken, Taken::OverQuota(_)))
        .count();
    assert_eq!((new, over), (1, 1), "{outcomes:?}");
}

async fn an_invitation_is_good_once_in_its_time_for_its_secret(scratch: Scratch) {
    let store = &scratch.store;
    let tenant: TenantId = "acme".parse().unwrap();
    let (good, wrong) = (Sha256::of(b"secret"), Sha256::of(b"guess"));
    let later = Timestamp(2_000);
    for (name, expires) in [("timely", later), ("late", NOW)] {
        let invitation = NewInvitation {
            name: name.to_owned(),
            tenant: tenant.clone(),
            sha256: good,
            expires,
            attempts: 2,
        };
        store
            .invite(&invitation, &Deed::of_manager("invite"), NOW)
            .await
            .unwrap();
    }
    let redeem = async |name: &str, secret: &Sha256, certificate: &[u8]| {
        store
            .redeem_invitation(name, secret, &Sha256::of(certificate), NOW)
            .await
            .unwrap()
    };
    assert_eq!(redeem("late", &good, b"1").await, Redemption::Refused);
    assert_eq!(redeem("nobody", &good, b"1").await, Redemption::Refused);
    assert_eq!(redeem("timely", &wrong, b"1").await, Redemption::Refused);
    assert!(store.tenant(&tenant).await.unwrap().is_none());
    assert_eq!(
        redeem("timely", &good, b"1").await,
        Redemption::Good(tenant.clone())
    );
    assert_eq!(redeem("timely", &good, b"2").await, Redemption::Refused);
    assert!(
        store
            .tenant_by_certificate(&tenant, &Sha256::of(b"1"))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        store
            .tenant_by_certificate(&tenant, &Sha256::of(b"2"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .revoke_tenant(&tenant, &Deed::of_manager("revoke"), NOW)
            .await
            .unwrap()
    );
    assert!(
        store
            .tenant_by_certificate(&tenant, &Sha256::of(b"1"))
            .await
            .unwrap()
            .is_none()
    );
}
