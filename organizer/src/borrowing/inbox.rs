//! How others and a borrowing's driver speak with each other: inputs, with an answer for each, and a snapshot for everybody.

use super::machine::{Event, State};
use tokio::sync::oneshot;

/// What everybody may see of a borrowing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// The position of its last note.
    pub sequence: u64,
}

/// Something that others want of a borrowing, with the way to answer.
pub struct Input {
    /// What they want.
    pub event: Event,
    /// Whether it was admitted and written down.
    pub reply: oneshot::Sender<Result<(), Denied>>,
}

/// Why an input was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It does not fit the state.
    #[error("not in the borrowing's present state")]
    NotNow,
    /// It cannot be written down; a later attempt may succeed.
    #[error("it cannot be written down now")]
    Store,
}
