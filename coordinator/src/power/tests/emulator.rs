//! Against sushy-tools' emulator with its fake machine, whose power follows an order 1 to 11 seconds later.

use super::redfish;
use crate::power::{PowerError, PowerOrder, PowerState};
use leaseboot_protocol::hardware::Firmware;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "sushy-tools==2.2.0";

/// Python with the emulator, installed once below `target/`, by one test at a time.
fn python() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sushy-tools");
    let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let (python, stamp) = (place.join("bin/python3"), place.join("installed"));
    if std::fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return python;
    }
    let run = |command: &mut Command, advice: &str| {
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}: {advice}"));
        assert!(
            output.status.success(),
            "{command:?}: {}: {advice}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--clear"])
            .arg(&place),
        "apt-get install python3-venv",
    );
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        VERSION,
    ];
    run(
        Command::new(&python).args(install),
        "the test needs the Python package index once",
    );
    std::fs::write(&stamp, VERSION).unwrap();
    python
}

struct Emulator {
    process: Child,
    url: String,
    directory: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Emulator {
    fn start() -> Self {
        Self::start_with("http", |_, _| {})
    }

    /// With a certificate that it made for itself, as controllers do; `ca.pem` holds it.
    fn start_tls() -> Self {
        Self::start_with("https", |directory, command| {
            let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
            let (certificate, key) = (directory.join("ca.pem"), directory.join("key.pem"));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            command
                .arg("--ssl-certificate")
                .arg(certificate)
                .arg("--ssl-key")
                .arg(key);
        })
    }

    fn start_with(scheme: &str, more: impl FnOnce(&Path, &mut Command)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let python = python();
        let hash = Command::new(&python)
            .args([
                "-c",
                "import bcrypt; print(bcrypt.hashpw(b'hush7531', bcrypt.gensalt(4)).decode())",
            ])
            .output()
            .unwrap();
        let users = directory.path().join("users");
        std::fs::write(&users, format!("lm:{}", String::from_utf8(hash.stdout).unwrap())).unwrap();
        let config = directory.path().join("emulator.conf");
        let text = format!(
            "SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_AUTH_FILE = {users:?}\nSUSHY_EMULATOR_STATE_DIR = {:?}\n",
            directory.path(),
        );
        std::fs::write(&config, text).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(python.with_file_name("sushy-emulator"));
        command
            .args([
                "--fake",
                "--interface",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--config",
            ])
            .arg(&config);
        more(directory.path(), &mut command);
        let process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let emulator = Self {
            process,
            url: format!("{scheme}://127.0.0.1:{port}"),
            directory,
        };
        emulator.wait(port);
        emulator
    }

    /// The SHA-256 of its certificate.
    fn fingerprint(&self) -> String {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject as _;
        let certificate = CertificateDer::from_pem_file(self.directory.path().join("ca.pem")).unwrap();
        hex::encode_upper(ring::digest::digest(&ring::digest::SHA256, &certificate))
    }

    /// The system as the emulator shows it to another client.
    fn as_seen_by_others(&self) -> String {
        let url = format!(
            "{}/redfish/v1/Systems/27946b59-9e44-4fa7-8e91-f3527a1ef094",
            self.url
        );
        let output = Command::new("curl")
            .args(["--silent", "--user", "lm:hush7531", &url])
            .output();
        let output = output
            .unwrap_or_else(|error| panic!("curl is needed for this test: {error}: apt-get install curl"));
        String::from_utf8(output.stdout).unwrap()
    }

    fn wait(&self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = self.directory.path().join("log");
            assert!(
                Instant::now() < deadline,
                "the emulator does not listen: {}",
                std::fs::read_to_string(log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[tokio::test]
async fn orders_end_when_the_power_has_followed() {
    let emulator = Emulator::start();
    // The service has one system, which is found without being named.
    let power = redfish(&emulator.url, "", emulator.directory.path());
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
    power.order(PowerOrder::Off, Firmware::Unknown).await.unwrap();
    power
        .order(PowerOrder::NetworkBootOnce, Firmware::Unknown)
        .await
        .unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::On);
    let seen = emulator.as_seen_by_others();
    assert!(seen.contains("\"BootSourceOverrideTarget\": \"Pxe\""), "{seen}");
    power.order(PowerOrder::On, Firmware::Unknown).await.unwrap();
    power.order(PowerOrder::Cycle, Firmware::Unknown).await.unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::On);
    power.order(PowerOrder::Off, Firmware::Unknown).await.unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
}

#[tokio::test]
async fn refusals_say_what_the_service_said() {
    let emulator = Emulator::start();
    let unknown = format!("{}/redfish/v1/Systems/nobody", emulator.url);
    let error = redfish(&unknown, "", emulator.directory.path())
        .state()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PowerError::Refused { status: 404, message, .. } if message.contains("nobody")),
        "{error}"
    );
    let power = redfish(&emulator.url, "", emulator.directory.path());
    std::fs::write(
        emulator.directory.path().join("users"),
        "lm:$2b$04$abcdefghijklmnopqrstuu0000000000000000000000000000000",
    )
    .unwrap();
    let error = power.state().await.unwrap_err();
    assert!(
        matches!(error, PowerError::Refused { status: 401, .. }),
        "{error}"
    );
    assert!(!format!("{error} {error:?} {power:?}").contains("hush7531"));
}

#[tokio::test]
async fn https_needs_the_certificate_that_the_configuration_names() {
    let (emulator, other) = (Emulator::start_tls(), Emulator::start_tls());
    let power = redfish(&emulator.url, "ca_file = \"ca.pem\"", emulator.directory.path());
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
    let error = redfish(&emulator.url, "ca_file = \"ca.pem\"", other.directory.path())
        .state()
        .await
        .unwrap_err();
    assert!(matches!(error, PowerError::Unreachable { .. }), "{error}");

    let pinned = format!("fingerprint = \"{}\"", emulator.fingerprint());
    let power = redfish(&emulator.url, &pinned, emulator.directory.path());
    assert_eq!(power.state().await.unwrap(), PowerState::Off);
    let error = redfish(&other.url, &pinned, other.directory.path())
        .state()
        .await
        .unwrap_err();
    assert!(matches!(error, PowerError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_mode_of_the_firmware_goes_with_the_override() {
    let emulator = Emulator::start();
    for (firmware, more, mode) in [
        (Firmware::Bios, "", "Legacy"),
        (Firmware::Uefi, "network_boot = \"uefi-http\"", "UEFI"),
    ] {
        redfish(&emulator.url, more, emulator.directory.path())
            .order(PowerOrder::NetworkBootOnce, firmware)
            .await
            .unwrap();
        let seen = emulator.as_seen_by_others();
        let expected = format!("\"BootSourceOverrideMode\": \"{mode}\"");
        assert!(seen.contains(&expected), "{seen}");
    }
}
