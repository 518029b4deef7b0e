//! Servers of Debian that a test talks to. Their packages would start a service where they are installed, so they are unpacked only, below
//! `target/`, once.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Unpacks packages into `target/NAME`; one test at a time does it.
pub fn unpacked(name: &str, packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if place.exists() {
        return place;
    }
    let scratch = tempfile::tempdir_in(place.parent().unwrap()).unwrap();
    let files = scratch.path().join("files");
    run(Command::new("apt-get")
        .args(["-o", "APT::Sandbox::User=root", "--quiet", "download"])
        .args(packages)
        .current_dir(scratch.path()));
    for package in std::fs::read_dir(scratch.path()).unwrap() {
        let package = package.unwrap().path();
        run(Command::new("dpkg-deb").arg("--extract").args([&package, &files]));
    }
    std::fs::rename(&files, &place).unwrap();
    place
}

fn run(command: &mut Command) {
    let ended = command.output().unwrap();
    assert!(
        ended.status.success(),
        "{command:?}: {}; the test needs Debian's package archive once",
        String::from_utf8_lossy(&ended.stderr)
    );
}
