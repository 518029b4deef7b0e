//! The Unix socket over which the people of a manager's host speak with it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

/// How long a manager that was killed may seem to live. What it was just starting shares its sockets from fork(2) to execve(2).
const AFTERLIFE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another manager serves on {}; stop it first", .0.display())]
    Taken(PathBuf),
    /// The socket cannot be made.
    #[error("cannot make the socket {}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes the socket, readable by its owner only. One on which nobody listens is left over and replaced.
///
/// # Errors
/// [`SocketError`].
pub async fn bind(path: PathBuf) -> Result<UnixListener, SocketError> {
    let patience = Instant::now() + AFTERLIFE;
    while is_listened_on(&path).await {
        if Instant::now() >= patience {
            return Err(SocketError::Taken(path));
        }
        sleep(LOOK).await;
    }
    make(&path).map_err(|source| SocketError::Bind {
        path: path.clone(),
        source,
    })
}

/// It is made in a folder that nobody else may enter, so it is never there with more than its own permissions.
fn make(path: &Path) -> io::Result<UnixListener> {
    let beside = path.parent().unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".new").tempdir_in(beside)?;
    let new = folder.path().join("sock");
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

async fn is_listened_on(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_is_listened_on_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manager.sock");
        let _first = bind(path.clone()).await.unwrap();
        assert!(matches!(bind(path.clone()).await, Err(SocketError::Taken(_))));
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_is_left_over_is_replaced_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manager.sock");
        drop(bind(path.clone()).await.unwrap());
        let _second = bind(path.clone()).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn one_that_outlives_its_manager_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manager.sock");
        let first = bind(path.clone()).await.unwrap();
        let second = tokio::spawn(bind(path));
        sleep(2 * LOOK).await;
        assert!(!second.is_finished(), "it is not free yet");
        drop(first);
        assert!(second.await.unwrap().is_ok());
    }
}
