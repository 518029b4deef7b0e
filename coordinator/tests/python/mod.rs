//! Foreign programs from the Python package index, each set in a virtual environment below `target/` that is made once.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of programs of an environment with these packages, each named with its version; one test at a time makes it.
pub fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let (programs, stamp, wanted) = (place.join("bin"), place.join("installed"), packages.join(" "));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return programs;
    }
    run(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--clear"])
            .arg(&place),
        "apt-get install python3-venv",
    );
    run(
        Command::new(programs.join("pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(packages),
        "the test needs the Python package index once",
    );
    std::fs::write(&stamp, wanted).unwrap();
    programs
}

/// Runs a program; gives what it said, and panics with that when it was not content.
pub fn run(command: &mut Command, advice: &str) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}: {advice}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}: {advice}");
    said
}
