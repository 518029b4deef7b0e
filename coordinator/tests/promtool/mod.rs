//! Prometheus' own linter of metrics. Debian's package would start a server where it is installed, so it is unpacked only, below `target/`,
//! once.

use super::python::run;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "prometheus";

/// What `promtool check metrics` finds fault with in an OpenMetrics text; nothing when it is content.
///
/// It reads the format of before OpenMetrics, in which the comments of a counter have the whole name of its samples.
pub fn faults(openmetrics: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), before_openmetrics(openmetrics)).unwrap();
    let checked = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::from(file.reopen().unwrap()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.success(), said.is_empty(), "{checked:?}");
    said
}

fn before_openmetrics(text: &str) -> String {
    let counters: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut older = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ")) {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", comment @ ("HELP" | "TYPE"), name, rest] if counters.contains(name) => {
                older += &format!("# {comment} {name}_total {rest}\n");
            }
            _ => older += &format!("{line}\n"),
        }
    }
    older
}

/// The program; one test at a time fetches it.
fn promtool() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/promtool");
    let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let program = place.join("usr/bin/promtool");
    if program.exists() {
        return program;
    }
    let scratch = tempfile::tempdir_in(place.parent().unwrap()).unwrap();
    let advice = "the test needs Debian's package archive once";
    run(
        Command::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "--quiet", "download", PACKAGE])
            .current_dir(scratch.path()),
        advice,
    );
    let mut files = std::fs::read_dir(scratch.path()).unwrap();
    let package = files.next().unwrap().unwrap().path();
    let unpacked = scratch.path().join("files");
    run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([&package, &unpacked]),
        advice,
    );
    std::fs::rename(&unpacked, &place).unwrap();
    program
}
