//! A program of the enterprise's own, for everything that has no channel here.
//!
//! It is run with `in-service`, name and address when a server comes into service, and with `gone`, name and address when the server is no
//! longer to be counted on. Each is run at least once for each server, in that order, also when the PO is killed in between: so it may
//! be run twice for the same, and must not mind. A run that fails is repeated after a pause that doubles, up to [`TRIES`] times in all.

use super::Roster;
use super::plan::{Act, Step, Subject, Wanted};
use super::reconcile::Channel;
use crate::program::Program;
use crate::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Its name in the journal. The store writes rows of it, in the transaction that brings a server into service.
pub const NAME: &str = "hook";
/// How often the same is said to a program that fails: within about six minutes.
pub const TRIES: u32 = 10;
/// How long a run may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A program was not successful.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It did not start.
    #[error("cannot run {program}: is it there, and may leaseboot-po execute it?")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("{program} failed ({status})")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It did not end.
    #[error("{program} was stopped after {} s", deadline.as_secs())]
    Late {
        /// The program.
        program: String,
        /// How long it had.
        deadline: Duration,
    },
    /// The store does not tell what to say.
    #[error("cannot look up whom to speak of")]
    Store(#[from] StoreError),
}

/// Runs a program (with its arguments) with `words` after them; an empty command succeeds. The program is killed, with all that it
/// started, when its time is over or this is dropped.
///
/// # Errors
/// [`HookError`] unless it ends with status 0 in time.
pub async fn run(command: &[String], words: &[&str], deadline: Duration) -> Result<(), HookError> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let program = || program.clone();
    let mut command = Command::new(program());
    command
        .args(arguments)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let ended = async { Program::start(&mut command)?.ended().await };
    match timeout(deadline, ended).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(HookError::Failed {
            program: program(),
            status,
        }),
        Ok(Err(source)) => Err(HookError::Start {
            program: program(),
            source,
        }),
        Err(_) => Err(HookError::Late {
            program: program(),
            deadline,
        }),
    }
}

/// The program as a channel.
pub(super) struct Hook {
    command: Vec<String>,
    store: Store,
}

impl Hook {
    pub(super) fn new(command: Vec<String>, store: Store) -> Self {
        Self { command, store }
    }
}

impl Channel for Hook {
    const NAME: &'static str = NAME;
    const TRIES: Option<u32> = Some(TRIES);
    type Shown = ();
    type Error = HookError;

    fn wanted(&self, roster: &Roster) -> BTreeMap<Subject, Wanted<()>> {
        let wanted = |id: &crate::borrowing::BorrowingId| {
            let borrowing = id.clone();
            (id.to_string(), Wanted { borrowing, shown: () })
        };
        roster.entries.keys().map(wanted).collect()
    }

    async fn carry_out(&self, step: &Step<()>) -> Result<(), HookError> {
        if self.command.is_empty() {
            return Ok(());
        }
        let Some(order) = self.store.order(&step.borrowing).await? else {
            return Ok(());
        };
        let word = match step.act {
            Act::Tell => "in-service",
            Act::Withdraw => "gone",
        };
        let address = order.address().to_string();
        let words = [word, order.settings.hostname.as_str(), &address];
        run(&self.command, &words, DEADLINE).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, deadline: Duration) -> Result<(), HookError> {
        let command = ["/bin/sh", "-c", script, "hook"].map(str::to_owned);
        run(&command, &["gone", "web-1", "10.99.0.10"], deadline).await
    }

    #[tokio::test]
    async fn a_program_gets_the_words_and_is_believed_by_its_status() {
        let all = "test \"$*\" = 'gone web-1 10.99.0.10'";
        shell(all, DEADLINE).await.unwrap();
        let failed = shell("exit 3", DEADLINE).await.unwrap_err();
        assert!(failed.to_string().contains("exit status: 3"), "{failed}");
        let late = shell("exec sleep 60", Duration::from_millis(50)).await;
        assert!(matches!(late, Err(HookError::Late { .. })), "{late:?}");
        let missing = run(&["/nowhere".to_owned()], &[], DEADLINE).await;
        assert!(matches!(missing, Err(HookError::Start { .. })), "{missing:?}");
        run(&[], &[], DEADLINE).await.unwrap();
    }
}
