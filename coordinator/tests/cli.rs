//! The command line as programs and shells use it: JSON, live following, completions, manual pages, exit codes.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, fails, run, text};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// `leaseboot-lm watch --json`, ended when dropped.
struct Watching {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn begin(house: &House) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
            .args([
                "watch",
                "--json",
                "--from-start",
                "--config",
                text(&house.config()),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    /// Reads on to the first line that `wanted` likes.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the watch ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_what_was_and_what_comes() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let mut watching = Watching::begin(&house);
    let first = watching.until(|_| true);
    assert_eq!(first["lease"], lease.as_str());
    assert_eq!(
        (&first["server"], &first["event"]["sequence"]),
        (&"s1".into(), &1.into())
    );
    tenant.prepare(&lease).await;
    let second = watching.until(|_| true);
    assert_eq!(second["event"]["state"], "prepared");
    tenant.release(&lease).await;
    let server = watching.until(|line| line.get("custody").is_some());
    assert_eq!(server["server"], "s1");
    assert_ne!(server["custody"], "lent");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_tables_for_people_and_json_for_programs() {
    let house = House::new().await;
    let lease = house.tenant("acme").borrow("one").await.id;
    let config = house.config();
    let ask = |arguments: &[&str]| run(&[arguments, &["--config", text(&config)]].concat());
    let listed: Value = serde_json::from_str(&ask(&["leases", "list", "--json"])).unwrap();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["state"]),
        (&lease.as_str().into(), &"leased".into())
    );
    let shown: Value = serde_json::from_str(&ask(&["leases", "show", lease.as_str(), "--json"])).unwrap();
    assert_eq!(shown["events"][0]["sequence"], 1);
    let table = ask(&["leases", "list"]);
    assert!(
        table.starts_with("LEASE") && table.lines().nth(1).unwrap().contains(lease.as_str()),
        "{table}"
    );
    let status: Value = serde_json::from_str(&ask(&["status", "--json"])).unwrap();
    assert_eq!(status["servers"][0]["custody"], "lent");
    let servers: Value = serde_json::from_str(&ask(&["servers", "list", "--json"])).unwrap();
    assert_eq!(
        (&servers["servers"][0]["name"], &servers["servers"][0]["lease"]),
        (&"s1".into(), &lease.as_str().into())
    );
    assert_eq!(servers["strangers"], serde_json::json!([]));
    ask(&["tenant", "set", "other", "--servers", "3"]);
    let tenants: Value = serde_json::from_str(&ask(&["tenant", "list", "--json"])).unwrap();
    assert_eq!(
        (&tenants[0]["name"], &tenants[0]["revoked"]),
        (&"acme".into(), &Value::Null)
    );
    assert_eq!(
        (&tenants[1]["name"], &tenants[1]["terms"]["servers"]),
        (&"other".into(), &3.into())
    );
    let history = ask(&["leases", "show", lease.as_str()]);
    assert!(history.contains("WHAT"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_erasure_key_is_told_with_the_command_that_makes_one() {
    let house = House::new().await;
    let config = house.config();
    let asked = ["erasure-key", "--config", text(&config)];
    let key = run(&asked);
    std::fs::remove_file(house.folder().join("lm/erasure.key")).unwrap();
    let error = fails(&asked);
    assert!(error.contains("leaseboot-lm erasure-key --make"), "{error}");
    let made = run(&[&asked[..], &["--make"]].concat());
    assert_ne!(made, key);
    assert_eq!(run(&asked), made);
}

#[test]
fn exit_codes_are_as_the_help_says() {
    let code = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
            .args(arguments)
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["status", "--config", "/nowhere/lm.toml"]), Some(1));
    assert_eq!(code(&["stats"]), Some(2));
    assert!(run(&["--help"]).contains("Exit codes: 0"));
}

#[test]
fn bash_takes_the_completions_and_every_command_has_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("leaseboot-lm.bash");
    std::fs::write(&script, run(&["completions", "bash"])).unwrap();
    // What the shell does when somebody types `leaseboot-lm wat` and presses the tabulator key.
    let ask = format!(
        ". {}; how=$(complete -p leaseboot-lm); how=${{how#*-F }}; COMP_WORDS=(leaseboot-lm wat); COMP_CWORD=1; \
         ${{how%% *}} leaseboot-lm wat leaseboot-lm; echo ${{COMPREPLY[@]}}",
        script.display()
    );
    let said = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "watch", "{said:?}");

    let pages = folder.path().join("man1");
    run(&["man", text(&pages)]);
    for page in [
        "leaseboot-lm.1",
        "leaseboot-lm-serve.1",
        "leaseboot-lm-leases-show.1",
    ] {
        let page = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(page.contains(".TH") && page.contains("DESCRIPTION"), "{page}");
    }
}
