//! What an agent's report leaves in a lease's history.

use super::Effect;
use leaseboot_protocol::agent::Outcome;
use leaseboot_protocol::lease::{EventKind, Step as AgentStep};

/// Bytes of a note.
const LONGEST_NOTE: usize = 4096;

/// The events of one report.
pub(super) fn record(step: AgentStep, outcome: &Outcome) -> Vec<Effect> {
    let kind = match outcome.clone() {
        Outcome::Started => EventKind::StepStarted { step },
        Outcome::Progress { bytes, total } => EventKind::StepProgress { step, bytes, total },
        Outcome::Finished { took_ms, bytes } => EventKind::StepFinished { step, took_ms, bytes },
        Outcome::Failed {
            error,
            kernel_log,
            retrying,
        } => EventKind::StepFailed {
            step,
            error,
            kernel_log,
            retrying,
        },
        Outcome::Note { note } => EventKind::StepNote {
            step,
            note: shortened(note),
        },
        Outcome::Unknown => return Vec::new(),
    };
    vec![Effect::Record(kind)]
}

/// The last of a note, as much as a history has room for: whoever has a session may write it.
fn shortened(mut note: String) -> String {
    let excess = note.len().saturating_sub(LONGEST_NOTE);
    let cut = (excess..note.len()).find(|at| note.is_char_boundary(*at));
    note.split_off(cut.unwrap_or(0))
}
