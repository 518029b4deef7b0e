//! Against OpenIPMI's simulator, whose chassis is a script over two files. It speaks cipher suite 3; 17 it refuses.

use super::{config, write_private};
use crate::power::{PowerController, PowerError, PowerOrder, PowerState};
use leaseboot_protocol::hardware::Firmware;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Keeps the power in a file as 0 or 1, the next boot in another, and writes down what it was asked.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$@" >> log
action=$1
shift
while [ $# -gt 0 ]; do
    case "$action $1" in
        "get power" | "get boot") echo "$1:$(cat "$1")" ;;
        "set power" | "set boot") [ -e stuck ] || echo "$2" > "$1"; shift ;;
    esac
    shift
done
"#;

pub(super) struct Simulator {
    process: Child,
    port: u16,
    pub(super) directory: tempfile::TempDir,
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Simulator {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        write_files(place, port);
        let process = Command::new("ipmi_sim")
            .arg("-c")
            .arg(place.join("lan.conf"))
            .arg("-f")
            .arg(place.join("commands"))
            .arg("-s")
            .arg(place.join("state"))
            .arg("-n")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place.join("errors")).unwrap())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run ipmi_sim: {error}: apt-get install openipmi ipmitool")
            });
        let simulator = Self {
            process,
            port,
            directory,
        };
        simulator.wait().await;
        simulator
    }

    pub(super) fn controller(&self, more: &str) -> PowerController {
        self.controller_of("lm", more)
    }

    pub(super) fn controller_of(&self, username: &str, more: &str) -> PowerController {
        write_private(&self.directory.path().join("password"), "hush7531\n");
        let text = format!(
            "kind = \"ipmi\"\nhost = \"127.0.0.1\"\nport = {}\nusername = \"{username}\"\npassword_file = \"password\"\n{more}",
            self.port
        );
        PowerController::new(&config(&text), self.directory.path()).unwrap()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    async fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = self.controller("cipher_suite = 3\npatience_s = 2").state().await {
            assert!(
                Instant::now() < deadline,
                "the simulator does not answer: {error}: {}",
                self.file("errors")
            );
        }
    }
}

fn write_files(place: &Path, port: u16) {
    let write = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
    write("chassis", CHASSIS);
    std::fs::set_permissions(place.join("chassis"), std::fs::Permissions::from_mode(0o700)).unwrap();
    write("power", "0");
    write("boot", "none");
    std::fs::create_dir(place.join("state")).unwrap();
    let rights = ["callback", "user", "operator", "admin"]
        .map(|level| format!("    allowed_auths_{level} none md2 md5 straight\n"))
        .concat();
    let lan = format!(
        "name \"leaseboot\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n{rights}\
         \x20   guid a123456789abcdefa123456789abcdef\n  endlan\n  chassis_control \"{}\"\n\
         \x20 user 2 true \"lm\" \"hush7531\" admin 10 none md2 md5 straight\n",
        place.join("chassis").display()
    );
    write("lan.conf", &lan);
    write(
        "commands",
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n",
    );
}

#[tokio::test]
async fn orders_reach_the_chassis_and_are_seen() {
    let simulator = Simulator::start().await;
    let power = simulator.controller("cipher_suite = 3");
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
    power
        .order(PowerOrder::NetworkBootOnce, Firmware::Uefi)
        .await
        .unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::On);
    assert_eq!(simulator.file("boot").trim(), "pxe");
    power.order(PowerOrder::Cycle, Firmware::Uefi).await.unwrap();
    power.order(PowerOrder::Off, Firmware::Uefi).await.unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
    let log = simulator.file("log");
    let changes: Vec<_> = log.lines().filter(|line| line.starts_with("set")).collect();
    assert_eq!(
        changes,
        [
            "set boot pxe",
            "set power 1",
            "set power 0",
            "set power 1",
            "set power 0"
        ]
    );
}

#[tokio::test]
async fn power_that_does_not_follow_and_wrong_accounts_are_told() {
    let simulator = Simulator::start().await;
    std::fs::write(simulator.directory.path().join("stuck"), "").unwrap();
    let stuck = simulator.controller("cipher_suite = 3\npatience_s = 2");
    let error = stuck.order(PowerOrder::On, Firmware::Unknown).await.unwrap_err();
    assert!(matches!(error, PowerError::NotReached { .. }), "{error}");
    let error = stuck
        .order(PowerOrder::NetworkBootOnce, Firmware::Unknown)
        .await
        .unwrap_err();
    assert!(matches!(error, PowerError::NotChosen { .. }), "{error}");
    for wrong in [
        simulator.controller_of("nobody", "cipher_suite = 3"),
        simulator.controller("cipher_suite = 17"),
    ] {
        let error = wrong.state().await.unwrap_err();
        assert!(matches!(error, PowerError::Failed { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_controller_that_is_away_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join("password"), "hush7531\n");
    // A port that is taken, where nobody answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "kind = \"ipmi\"\nhost = \"127.0.0.1\"\nport = {}\nusername = \"lm\"\npassword_file = \"password\"\npatience_s = 1",
        silent.local_addr().unwrap().port()
    );
    let power = PowerController::new(&config(&text), directory.path()).unwrap();
    let error = power.state().await.unwrap_err();
    assert!(matches!(error, PowerError::Stuck { .. }), "{error}");
}
