//! Power controllers: two that others wrote (sushy-tools, OpenIPMI's simulator), one that misbehaves on request, and programs.

mod command;
mod emulator;
mod ipmi;
mod misbehaving;
mod secrets;
mod sessions;
mod wake_on_lan;

use super::{PowerConfig, PowerController};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

fn config(text: &str) -> PowerConfig {
    toml::from_str(text).unwrap()
}

fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A controller for a Redfish service, with the password `hush7531`.
fn redfish(url: &str, more: &str, directory: &Path) -> PowerController {
    write_private(&directory.join("password"), "hush7531\n");
    let text = format!(
        "kind = \"redfish\"\nurl = \"{url}\"\nusername = \"lm\"\npassword_file = \"password\"\n{more}"
    );
    PowerController::new(&config(&text), directory).unwrap()
}

#[test]
fn configurations_are_strict() {
    for (text, part) in [
        ("kind = \"ilo\"", "ilo"),
        (
            "kind = \"ipmi\"\nhost = \"x\"\nusername = \"a\"\npassword = \"b\"",
            "password",
        ),
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
    write_private(&directory.path().join("password"), "hush7531\n");
    write_private(&directory.path().join("empty"), "\n");
    write_private(&directory.path().join("long"), "a password of 22 bytes\n");
    std::fs::write(directory.path().join("open"), "hush7531\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(directory.path().join("open"), mode).unwrap();
    let redfish = |url: &str, password: &str, more: &str| {
        format!(
            "kind = \"redfish\"\nurl = \"{url}\"\nusername = \"lm\"\npassword_file = \"{password}\"\n{more}"
        )
    };
    let ipmi = |password: &str, more: &str| {
        format!(
            "kind = \"ipmi\"\nhost = \"10.0.0.1\"\nusername = \"lm\"\npassword_file = \"{password}\"\n{more}"
        )
    };
    let wake = |more: &str| format!("kind = \"wake-on-lan\"\nmac = \"52:54:00:12:34:56\"\n{more}");
    for (text, part) in [
        (ipmi("open", ""), "chmod 600"),
        (redfish("http://10.0.0.1", "open", ""), "mode 640"),
        (ipmi("long", ""), "20 bytes"),
        (ipmi("password", "cipher_suite = 0"), "power.cipher_suite"),
        (wake("password_file = \"password\""), "SecureOn"),
        (
            wake("off = { kind = \"wake-on-lan\", mac = \"52:54:00:12:34:57\" }"),
            "power.off",
        ),
        (
            redfish("https://10.0.0.1", "password", "fingerprint = \"ab:cd\""),
            "openssl x509",
        ),
        (
            redfish(
                "https://10.0.0.1",
                "password",
                "ca_file = \"password\"\nfingerprint = \"ab:cd\"",
            ),
            "exclude each other",
        ),
        (redfish("ftp://10.0.0.1", "password", ""), "ftp://10.0.0.1"),
        (
            redfish("http://lm:hush7531@10.0.0.1", "password", ""),
            "power.url",
        ),
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
