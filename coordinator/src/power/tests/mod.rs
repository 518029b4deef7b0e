//! Power controllers: one that others wrote (sushy-tools), one that misbehaves on request, and programs.

mod command;
mod emulator;
mod misbehaving;

use super::{PowerConfig, PowerController};
use std::path::Path;

fn config(text: &str) -> PowerConfig {
    toml::from_str(text).unwrap()
}

/// A controller for a Redfish service, with the password `secret`.
fn redfish(url: &str, more: &str, directory: &Path) -> PowerController {
    std::fs::write(directory.join("password"), "secret\n").unwrap();
    let text = format!(
        "kind = \"redfish\"\nurl = \"{url}\"\nusername = \"lm\"\npassword_file = \"password\"\n{more}"
    );
    PowerController::new(&config(&text), directory).unwrap()
}

#[test]
fn configurations_are_strict() {
    for (text, part) in [
        ("kind = \"ipmi\"", "ipmi"),
        (
            "kind = \"command\"\non = [\"a\"]\noff = [\"b\"]\nstate = [\"c\"]",
            "state",
        ),
        ("kind = \"command\"\non = [\"a\"]", "off"),
        (
            "kind = \"redfish\"\nurl = \"http://x\"\nusername = \"a\"\npassword = \"b\"",
            "password",
        ),
    ] {
        let error = toml::from_str::<PowerConfig>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn controllers_that_cannot_work_are_refused_before_they_are_needed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("password"), "secret\n").unwrap();
    std::fs::write(directory.path().join("empty"), "\n").unwrap();
    let redfish = |url: &str, password: &str, more: &str| {
        format!(
            "kind = \"redfish\"\nurl = \"{url}\"\nusername = \"lm\"\npassword_file = \"{password}\"\n{more}"
        )
    };
    for (text, part) in [
        (redfish("ftp://10.0.0.1", "password", ""), "ftp://10.0.0.1"),
        (redfish("http://lm:secret@10.0.0.1", "password", ""), "power.url"),
        (redfish("https://10.0.0.1", "password", ""), "ca_file"),
        (
            redfish("https://10.0.0.1", "password", "ca_file = \"password\""),
            "certificate",
        ),
        (redfish("http://10.0.0.1", "nothing", ""), "nothing"),
        (redfish("http://10.0.0.1", "empty", ""), "no password"),
        (
            "kind = \"command\"\non = [\"a\"]\noff = []".to_owned(),
            "power.off is empty",
        ),
    ] {
        let error = PowerController::new(&config(&text), directory.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
