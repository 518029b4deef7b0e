//! The shell of rescue mode, and its terminal.
//!
//! Stage 1 has no shell. The program comes from the LM and is used only when its digest is the one that stands in the image, so it is as good as the image. busybox's own `setsid -c` gives
//! it the terminal.

use super::system_calls::waited_for;
use leaseboot_protocol::console::WindowSize;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::rescue::SHELL_DIGEST_PATH;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use tokio::io::unix::AsyncFd;

const FOLDER: &str = "/rescue";
const PROGRAM: &str = "/rescue/busybox";
const NEW: &str = "/rescue/busybox.new";
const COMMANDS: &str = "/rescue/bin";

/// There is no shell.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// The image names none.
    #[error(
        "this image has no digest of a shell in {SHELL_DIGEST_PATH}: there is none for 64-bit ARM yet; for x86-64, build it anew with `cargo xtask image`"
    )]
    NoDigest(#[source] io::Error),
    /// The program is another.
    #[error(
        "the shell that the lease manager gave has the digest {found}, and the image wants {wanted}: one of the two is of another build"
    )]
    Digest {
        /// What came.
        found: Sha256,
        /// What the image says.
        wanted: String,
    },
    /// It cannot be put into place or started.
    #[error("cannot {what}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ShellError {
    move |source| ShellError::System {
        what,
        source: source.into(),
    }
}

/// The shell, in its place.
#[derive(Clone)]
pub(super) struct Shell(());

/// A shell that runs on a terminal. It is killed when this is dropped.
pub(super) struct Terminal {
    master: AsyncFd<OwnedFd>,
    shell: Child,
}

impl Shell {
    /// Checks the program and puts it into place.
    pub(super) fn install(program: &[u8]) -> Result<Self, ShellError> {
        let wanted = std::fs::read_to_string(SHELL_DIGEST_PATH).map_err(ShellError::NoDigest)?;
        check(program, wanted.trim())?;
        let place = || {
            std::fs::create_dir_all(COMMANDS)?;
            // Something of an earlier console may still run the old file.
            std::fs::write(NEW, program)?;
            std::fs::set_permissions(NEW, std::fs::Permissions::from_mode(0o755))?;
            std::fs::rename(NEW, PROGRAM)?;
            let installed = Command::new(PROGRAM)
                .args(["--install", "-s", COMMANDS])
                .status()?;
            match installed.success() {
                true => Ok(()),
                false => Err(io::Error::other(format!(
                    "busybox --install ended with {installed}"
                ))),
            }
        };
        place().map_err(system("put the shell into /rescue"))?;
        if !Path::new("/dev/pts/ptmx").exists() {
            std::fs::create_dir_all("/dev/pts").map_err(system("make /dev/pts"))?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            let mounted = mount(
                Some("devpts"),
                "/dev/pts",
                Some("devpts"),
                flags,
                Some("mode=0600,ptmxmode=0600"),
            );
            mounted.map_err(system("mount devpts on /dev/pts"))?;
        }
        Ok(Self(()))
    }

    /// Starts it on a terminal of its own.
    pub(super) fn start(&self) -> Result<Terminal, ShellError> {
        // No shell inherits another's terminal, nor its own master, which would keep it from being hung up on.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).map_err(system("open a terminal (/dev/ptmx)"))?;
        let open = || {
            grantpt(&master)?;
            unlockpt(&master)?;
            let slave = ioctl_tiocgptpeer(&master, flags)?;
            ioctl_fionbio(&master, true)?;
            Ok::<_, Errno>(slave)
        };
        let slave = File::from(open().map_err(system("set a terminal up"))?);
        let copy = || slave.try_clone().map_err(system("hand a terminal over"));
        let shell = Command::new(PROGRAM)
            .args(["setsid", "-c", PROGRAM, "sh"])
            .env_clear()
            .env("PATH", COMMANDS)
            .env("HOME", FOLDER)
            .env("TERM", "linux")
            .env("PS1", "rescue# ")
            .current_dir("/")
            .stdin(copy()?)
            .stdout(copy()?)
            .stderr(copy()?)
            .spawn()
            .map_err(system("start the shell"))?;
        let mut terminal = Terminal {
            master: waited_for(master).map_err(system("wait for a terminal"))?,
            shell,
        };
        terminal.resize(WindowSize::default());
        Ok(terminal)
    }
}

fn check(program: &[u8], wanted: &str) -> Result<(), ShellError> {
    let found = Sha256::of(program);
    if found.to_string() == wanted {
        return Ok(());
    }
    Err(ShellError::Digest {
        found,
        wanted: wanted.to_owned(),
    })
}

impl Terminal {
    /// What the shell has written; nothing when it has ended. Cancel-safe.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            match ready.try_io(|master| read(master, &mut *buffer).map_err(io::Error::from)) {
                // The last process has closed its side.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Ok(0),
                Ok(done) => return done,
                Err(_would_block) => {}
            }
        }
    }

    /// Types bytes.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.master.writable().await?;
            match ready.try_io(|master| write(master, bytes).map_err(io::Error::from)) {
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// The person's window has this size now.
    pub(super) fn resize(&mut self, size: WindowSize) {
        let size = Winsize {
            ws_col: size.columns,
            ws_row: size.rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A terminal of the wrong size is still one.
        let _ = tcsetwinsize(self.master.get_ref(), size);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The leader of the session: the kernel hangs up on all that it has in the foreground.
        // One that hangs in a driver does not end at once; [`reap`] takes it in when it does.
        let _ = self.shell.kill();
    }
}

/// Takes in what shells left behind: PID 1 inherits it. The agent has no other children in rescue mode.
pub(super) fn reap() {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG))
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_than_the_images_is_refused() {
        let wanted = Sha256::of(b"shell").to_string();
        assert!(check(b"shell", &wanted).is_ok());
        let error = check(b"other", &wanted).unwrap_err().to_string();
        assert!(error.contains(&wanted), "{error}");
        assert!(check(b"", "").is_err());
    }
}
