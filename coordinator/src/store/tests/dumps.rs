//! A backup holds everything, is taken in by either back end, and is refused whole when it is not whole.

use super::*;
use crate::store::DumpError;

on_both_back_ends!(
    a_backup_is_taken_in_by_either_back_end_and_gives_the_same_backup,
    a_backup_that_is_not_whole_changes_nothing,
);

async fn filled(scratch: &Scratch) -> Vec<u8> {
    let lease = taken(scratch.take("one", "a").await);
    assert!(
        scratch
            .store
            .commit(&lease, change(&lease, Event::SettingsMerged))
            .await
            .unwrap()
    );
    dump(&scratch.store).await
}

async fn dump(store: &Store) -> Vec<u8> {
    let mut text = Vec::new();
    store.dump(&mut text).await.unwrap();
    text
}

/// An empty store and what keeps it.
async fn empty(postgres: bool) -> (Scratch, Location) {
    let scratch = match postgres {
        true => Scratch::postgres().await,
        false => Scratch::sqlite().await,
    };
    for table in ["servers", "leases", "events"] {
        let statement = sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}")));
        scratch.store.execute("empty it", statement).await.unwrap();
    }
    scratch.store.close().await;
    let place = scratch.place.clone();
    (scratch, place)
}

async fn a_backup_is_taken_in_by_either_back_end_and_gives_the_same_backup(scratch: Scratch) {
    let text = filled(&scratch).await;
    for postgres in [false, true] {
        let (_keeper, place) = empty(postgres).await;
        let rows = Store::restore(&place, &mut text.as_slice(), false).await.unwrap();
        let restored = Store::open(&place).await.unwrap();
        assert_eq!(
            restored.leases().await.unwrap(),
            scratch.store.leases().await.unwrap()
        );
        let again = dump(&restored).await;
        let sorted = |text: &[u8]| {
            let mut lines: Vec<_> = String::from_utf8_lossy(text).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&again), sorted(&text));
        assert_eq!(rows, u64::try_from(sorted(&text).len() - 2).unwrap());
        // The numbers that the database gives go on after those that it was given.
        let next = restored.take(new_lease("two", "b"), NOW).await.unwrap();
        assert_eq!(restored.leases().await.unwrap().last(), Some(&taken(next)));
        restored.close().await;
    }
}

async fn a_backup_that_is_not_whole_changes_nothing(scratch: Scratch) {
    let text = filled(&scratch).await;
    let before = dump(&scratch.store).await;
    let in_use = Store::restore(&scratch.place, &mut text.as_slice(), true).await;
    assert!(matches!(in_use, Err(DumpError::InUse)), "{in_use:?}");
    scratch.store.close().await;
    let not_empty = Store::restore(&scratch.place, &mut text.as_slice(), false).await;
    assert!(
        matches!(not_empty, Err(DumpError::NotEmpty { .. })),
        "{not_empty:?}"
    );
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n");
    let newer = text.replacen("\"tables\":", "\"tables\":9", 1);
    let strange = text.replacen("\"custody\":", "\"colour\":\"red\",\"custody\":", 1);
    for (bad, words) in [
        (cut.as_str(), "cut short"),
        (&lines[1..].join("\n"), "not what a backup has here"),
        (&newer, "has tables of version 9"),
        (&strange, "no column servers.colour"),
        ("{", "line 1"),
        ("", "cut short"),
    ] {
        let refused = Store::restore(&scratch.place, &mut bad.as_bytes(), true)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let store = Store::open(&scratch.place).await.unwrap();
    assert_eq!(dump(&store).await, before);
}
