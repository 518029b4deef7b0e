//! The Procurement Organizer: the enterprise's side of a lending.
//!
//! | module | does |
//! |---|---|
//! | [`config`] | reads `po.toml`, profiles and images |
//! | [`borrowing`] | the states of one borrowing, pure, and their driver |
//! | [`organizer`] | all borrowings of this process, and who may ask what inside the tunnel |
//! | [`events`] | what the enterprise's services raise: Alertmanager, CloudEvents |
//! | [`policy`] | which event borrows what, pure, and the driver that does it |
//! | [`store`] | SQLite: borrowings, addresses, progress, events, decisions |
//! | [`lender`] | the LM's client over mutual TLS |
//! | [`enrolment`] | from a lender's invitation to our certificate |
//! | [`gateway`] | WireGuard peers and the service inside the tunnel |
//! | [`images`] | boot images: adds, examines, checks and removes them |
//! | [`sealing`] | makes the files of sealed values |
//! | [`passage`] | which packets pass from lent servers into the enterprise, by lease |
//! | [`cache`] | packages of the enterprise, kept on the gateway for servers that install |
//! | [`control`] | the CLI's way to the daemon: a Unix socket |
//! | [`doctor`] | looks at all that a borrowing needs |
//! | [`progress`] | what happened, and how people see it |
//! | [`announce`] | the enterprise learns which servers it may count on: hosts, Ansible, Prometheus, DNS, hooks |

pub mod announce;
pub mod borrowing;
pub mod cache;
pub mod config;
pub mod control;
pub mod doctor;
pub mod enrolment;
pub mod erasure;
pub mod events;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod images;
pub mod lender;
pub mod organizer;
pub mod passage;
pub mod policy;
mod program;
pub mod progress;
pub mod sealing;
pub mod store;

use leaseboot_protocol::timestamp::Timestamp;
use std::error::Error;
use std::time::SystemTime;

/// An error with its causes, outermost first, on one line.
pub fn error_chain(error: &dyn Error) -> String {
    let mut chain = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !chain.ends_with(&text) {
            chain = format!("{chain}: {text}");
        }
        next = cause.source();
    }
    chain
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
