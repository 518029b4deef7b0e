//! What the daemon needs of its own machine besides the network: a folder that can be written, and its control socket.

use super::Finding;
use crate::control::client::{ClientError, ControlClient};
use crate::error_chain;
use nix::sys::statvfs::statvfs;
use std::io;
use std::path::Path;

/// With less than this, in MiB, the store may fail in the middle of a transfer.
const ROOM_MIB: u64 = 64;

/// Whether the daemon serves, and what is to be said about that.
pub(super) async fn control(socket: &Path, config: &Path) -> (bool, Finding) {
    let asked = match ControlClient::new(socket.to_owned(), config) {
        Ok(client) => client
            .list()
            .await
            .map(|all| all.iter().filter(|one| !one.over).count()),
        Err(error) => Err(error),
    };
    (asked.is_ok(), judge_control(asked, socket))
}

fn judge_control(asked: Result<usize, ClientError>, socket: &Path) -> Finding {
    match asked {
        Ok(living) => Finding::ok("daemon", format!("it serves, with {living} living borrowings")),
        Err(error @ ClientError::NoDaemon { .. }) => {
            Finding::warning("daemon", "it does not serve", error.to_string())
        }
        Err(error) => {
            let remedy = format!(
                "restart the daemon (systemctl restart leaseboot-po); its socket is {}",
                socket.display()
            );
            Finding::problem("daemon", error_chain(&error), remedy)
        }
    }
}

/// Whether the folder of the store can be written, and has room.
pub(super) fn store(folder: &Path) -> Finding {
    let written = tempfile_in(folder).and_then(|()| writable(&folder.join("po.sqlite")));
    let room = statvfs(folder).map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) >> 20);
    judge_store(folder, written, room.ok())
}

fn judge_store(folder: &Path, written: io::Result<()>, room_mib: Option<u64>) -> Finding {
    let path = folder.display();
    match (written, room_mib) {
        (Err(error), _) => {
            let found = format!("{path} cannot be written: {error}");
            let remedy =
                "the store lies there: make the folder the daemon's, on a disk that is not read-only";
            Finding::problem("store", found, remedy)
        }
        (Ok(()), Some(room)) if room < ROOM_MIB => {
            let found = format!("{path} has {room} MiB of room");
            Finding::problem("store", found, format!("make room: {ROOM_MIB} MiB at least"))
        }
        (Ok(()), _) => Finding::ok("store", format!("{path} can be written")),
    }
}

/// A file that is made and removed.
fn tempfile_in(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&path, b"x")?;
    std::fs::remove_file(&path)
}

fn writable(file: &Path) -> io::Result<()> {
    match std::fs::OpenOptions::new().append(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_full_or_read_only_disk_is_a_problem() {
        let judged = |written, room| judge_store(Path::new("/po"), written, room).verdict;
        let read_only = || io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(judged(Ok(()), Some(64)), Verdict::Ok);
        assert_eq!(judged(Ok(()), None), Verdict::Ok);
        assert_eq!(judged(Ok(()), Some(63)), Verdict::Problem);
        assert_eq!(judged(Err(read_only()), Some(1 << 20)), Verdict::Problem);
    }

    #[test]
    fn nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(store(folder.path()).verdict, Verdict::Ok);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(store(&folder.path().join("no")).verdict, Verdict::Problem);
    }
}
