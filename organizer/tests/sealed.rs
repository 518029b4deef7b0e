//! Sealed values: made by a person's command, given once in a boot attempt through the tunnel, named in history and log, and nowhere else.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_po::progress::Note;
use leaseboot_protocol::lease::LeaseState;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use support::{Enterprise, SECRET, key};

/// What a program would write to its log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every byte below a folder but those of the value's own file.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else if path.extension().is_none_or(|name| name != "sealed") && path.is_file() {
            all.extend(fs::read(path).unwrap());
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_value_goes_out_once_in_a_boot_attempt_and_stays_out_of_store_and_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let enterprise = Enterprise::new().await;
    let po = enterprise.serve().await;
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    let lender = &enterprise.lender;
    lender.ordered("boot l-1").await;
    lender.moves("l-1", LeaseState::Booting);
    lender.moves("l-1", LeaseState::Stage1);
    let server = po.server("127.0.0.10");
    for attempt in 1..=2 {
        lender.agent_key("l-1", key(attempt));
        po.until(
            &view.id,
            |note| matches!(note, Note::PeerIn { key: its, .. } if *its == key(attempt)),
        )
        .await;
        // An answer may be lost: the same is given again.
        for _ in 0..2 {
            let answer = server.get("/v1/sealed").await;
            assert_eq!(answer.status(), 200, "attempt {attempt}");
            assert!(answer.text().await.unwrap().contains(SECRET));
        }
        // From the first byte of the image on it is not; the image itself is.
        assert_eq!(server.get("/v1/image/kernel").await.status(), 200);
        assert_eq!(server.get("/v1/sealed").await.status(), 403);
        assert_eq!(server.get("/v1/image/initrd").await.status(), 200);
        assert_eq!(server.get("/v1/sealed").await.status(), 403);
        // Written down before the answer left.
        let told = po.organizer.next_progress(&view.id, 0).await.unwrap();
        let unsealed = Note::Unsealed {
            names: vec!["root".to_owned()],
        };
        let times = told.iter().filter(|progress| progress.note == unsealed).count();
        assert_eq!(times, 2 * usize::from(attempt), "{told:#?}");
    }
    // Nor by another process that reads the states.
    po.stop().await;
    let po = enterprise.serve().await;
    let server = po.server("127.0.0.10");
    assert_eq!(server.get("/v1/image/kernel").await.status(), 200);
    assert_eq!(server.get("/v1/sealed").await.status(), 403);
    po.stop().await;

    let log = log.0.lock().unwrap().clone();
    assert!(
        holds(&log, "sealed values go to the server")
            && holds(&log, "names=[\"root\"]")
            && holds(&log, "server=rack-1")
    );
    let kept = bytes_below(enterprise.folder.path());
    assert!(
        holds(&kept, "unsealed"),
        "the history is among the bytes that were searched"
    );
    for (bytes, place) in [(&log, "log"), (&kept, "folder")] {
        assert!(!holds(bytes, SECRET), "the value is in the {place}");
    }
}

fn seal(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leaseboot-po"))
        .current_dir(folder)
        .args(["seal", "--config", "po.toml"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A refusal that does not read its input is one too.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

#[tokio::test]
async fn what_a_person_seals_is_in_a_private_file_and_not_on_the_screen() {
    let enterprise = Enterprise::new().await;
    let folder = enterprise.folder.path();
    fs::write(folder.join("po.toml"), support::PO_TOML).unwrap();
    let place = |name: &str| folder.join("profiles/web").join(name);
    let token = "hunter2 and more";
    let output = seal(folder, &["web", "token"], &format!("{token}\n"));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(place("token.sealed")).unwrap(), token);
    assert_eq!(
        fs::metadata(place("token.sealed")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        said(&output).contains("[sealed]"),
        "what is to do next: {}",
        said(&output)
    );

    let taken = seal(folder, &["web", "token"], "another\n");
    assert!(said(&taken).contains("--replace") && !taken.status.success());
    assert_eq!(fs::read_to_string(place("token.sealed")).unwrap(), token);

    let hashed = seal(folder, &["web", "token", "--replace", "--password"], token);
    let hash = fs::read_to_string(place("token.sealed")).unwrap();
    assert!(
        hash.starts_with("$6$rounds=100000$")
            && leaseboot_po::config::read_sealed(&place("token.sealed")).is_ok()
    );
    let refused = seal(folder, &["web", "token", "--replace"], "hunter2\nreboot\n");
    assert!(!refused.status.success());
    assert_eq!(fs::read_to_string(place("token.sealed")).unwrap(), hash);
    for output in [output, taken, hashed, refused] {
        assert!(
            !said(&output).contains("hunter2") && !said(&output).contains(&hash),
            "{}",
            said(&output)
        );
    }
}
