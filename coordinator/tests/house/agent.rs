//! The agent on a server of a house: what it reports, as the real one would.

use super::{House, hardware, mac};
use leaseboot_protocol::agent::{Directive, Hello, KeyOffer, Outcome, Report, Reports, Task};
use leaseboot_protocol::erasure::{DiskErasure, DiskOutcome, EraseMethod, ErasureReport};
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use reqwest::{Method, StatusCode};

/// What an agent reports that erased the one disk of its server, or could not.
pub fn erasure(clean: bool) -> ErasureReport {
    let outcome = match clean {
        true => DiskOutcome::Erased {
            method: EraseMethod::Discard,
            checked_bytes: 1,
            took_ms: 1,
        },
        false => DiskOutcome::Failed {
            errors: vec!["it refused".to_owned()],
        },
    };
    ErasureReport {
        disks: vec![DiskErasure {
            name: "vda".to_owned(),
            serial: String::new(),
            model: String::new(),
            size_bytes: 8 << 30,
            outcome,
        }],
        boot_entries_removed: Vec::new(),
        boot_entries_error: None,
    }
}

pub fn hello(number: u8) -> Hello {
    Hello {
        agent_version: "test".to_owned(),
        mac: mac(number),
        hardware: hardware(number),
        earlier: vec![finished(Step::Drivers)],
        without_kexec: false,
    }
}

pub fn report(step: Step, outcome: Outcome) -> Report {
    Report {
        step,
        at: Timestamp(0),
        outcome,
    }
}

pub fn finished(step: Step) -> Report {
    report(
        step,
        Outcome::Finished {
            took_ms: 1,
            bytes: 10,
        },
    )
}

pub fn failed(step: Step, error: &str) -> Report {
    report(
        step,
        Outcome::Failed {
            error: vec![error.to_owned()],
            kernel_log: vec!["log".to_owned()],
            retrying: false,
        },
    )
}

/// An agent after its hello.
pub struct Agent {
    pub number: u8,
    pub token: String,
    pub task: Task,
    pub name: String,
}

impl Agent {
    pub async fn key(&self, house: &House) {
        let offer = KeyOffer {
            key: WireguardPublicKey([self.number; 32]),
        };
        let asked = house
            .client_at(self.number)
            .ask(Method::PUT, "/v1/agent/key", Some(&self.token), Some(&offer))
            .await;
        assert_eq!(asked.0, StatusCode::NO_CONTENT, "{}", asked.1);
    }

    pub async fn kickstart(&self, house: &House) -> String {
        let path = "/v1/agent/kickstart";
        let (status, text) = house
            .client_at(self.number)
            .ask(Method::GET, path, Some(&self.token), None::<&()>)
            .await;
        assert!(status.is_success(), "{status}: {text}");
        text
    }

    pub async fn erasure(&self, house: &House, report: &ErasureReport) -> Directive {
        let client = house.client_at(self.number);
        client
            .good(Method::PUT, "/v1/agent/erasure", Some(&self.token), Some(report))
            .await
    }

    pub async fn reports(&self, house: &House, reports: Vec<Report>) -> Directive {
        let client = house.client_at(self.number);
        client
            .good(
                Method::POST,
                "/v1/agent/reports",
                Some(&self.token),
                Some(&Reports { reports }),
            )
            .await
    }
}
