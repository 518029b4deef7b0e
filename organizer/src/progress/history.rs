//! The courses of earlier transfers, read from the store: what estimates are made of.

use super::estimate::Course;
use super::live::Live;
use crate::store::{Store, StoreError};

/// Notes that are read at once.
const PAGE: u32 = 256;
/// A transfer with more notes than this is not read to its end: it was not a usual one.
const MOST_NOTES: usize = 4096;

/// The courses of the latest `most` transfers of `profile` that came into service, latest first.
///
/// # Errors
/// [`StoreError`].
pub async fn courses(store: &Store, profile: &str, most: usize) -> Result<Vec<Course>, StoreError> {
    let mut courses = Vec::new();
    let records = store.all().await?;
    let of_profile = records
        .iter()
        .rev()
        .filter(|record| record.order.settings.profile == profile);
    // Failed ones have no course; that many in a row say that there is nothing to learn.
    for record in of_profile.take(4 * most) {
        let mut live = Live::new();
        let mut read = 0;
        while live.course().is_none() && read < MOST_NOTES {
            let notes = store.progress(&record.id, read as u64, PAGE).await?;
            if notes.is_empty() {
                break;
            }
            read += notes.len();
            notes.iter().for_each(|note| drop(live.take(note)));
        }
        courses.extend(live.course());
        if courses.len() == most {
            break;
        }
    }
    Ok(courses)
}
