//! Exit codes: what a script learns without reading. Each has one meaning over all commands.

use leaseboot_po::control::client::ClientError;
use std::process::ExitCode;

/// The text below each command's help.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, and in service where that was awaited; 1 failed, with the reason on standard error; \
     2 the command line is not understood; 3 the server is given back, and no record proves that all its disks were erased (release, erasure); \
     4 nothing was lent: no server fits, or a name, an address or a quota is used up (borrow, follow); \
     5 a server was lent, and is not in service: its transfer failed, or somebody gave it back (borrow, follow); \
     6 no daemon answers, or it went away; what was begun goes on when it serves again; \
     130 Ctrl-C ended the watching, and what was begun goes on. \
     Of several servers the highest of 0, 4, 5 and 6 counts.";

/// How a command ended. The order is that of importance where several servers ended differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// As it should.
    Done = 0,
    /// An error that is no other.
    Failed = 1,
    /// No record proves the erasure.
    NotProven = 3,
    /// Nothing was lent.
    Refused = 4,
    /// Something was lent and is not in service.
    NotInService = 5,
    /// The daemon is not there.
    NoDaemon = 6,
    /// A person waits no longer.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// What an error means for a script.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<ClientError>() {
            Some(ClientError::NoDaemon { .. } | ClientError::Broken(_) | ClientError::Away(_)) => {
                Exit::NoDaemon
            }
            _ => Exit::Failed,
        }
    }
}
