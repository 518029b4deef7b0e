//! A file that grows, or a program that prints. Neither is waited for: a look takes what is there.

use super::SerialLine;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Bytes that a look takes: what one boot may leave in all.
const MOST: u64 = 64 << 10;
/// Pieces of a program's output that may wait for a look.
const WAITING: usize = 64;
const PIECE: usize = 1024;

pub(super) enum Source {
    /// The file, and how far it was read; not at all yet where there is none.
    File { path: PathBuf, read: Option<u64> },
    /// The program is killed when this is dropped.
    Program {
        _program: Child,
        pieces: mpsc::Receiver<Vec<u8>>,
    },
    /// It could not be started, for this reason.
    Broken(String),
}

impl Source {
    pub(super) fn open(line: &SerialLine, folder: &Path) -> Self {
        match line {
            SerialLine::File(path) => {
                let path = folder.join(path);
                // What stands there already was said before this lease booted the server.
                let read = std::fs::metadata(&path).map(|file| file.len()).ok();
                Source::File { path, read }
            }
            SerialLine::Command(words) => start(words).unwrap_or_else(Source::Broken),
        }
    }

    /// What came since the last look.
    pub(super) async fn read(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Source::File { path, read } => {
                let mut file = File::open(path).await?;
                let length = file.metadata().await?.len();
                // A file that is shorter than before was begun anew.
                let from = read.filter(|read| *read <= length).unwrap_or(0);
                let from = from.max(length.saturating_sub(MOST));
                file.seek(SeekFrom::Start(from)).await?;
                let mut bytes = Vec::new();
                file.take(MOST).read_to_end(&mut bytes).await?;
                *read = Some(from + bytes.len() as u64);
                Ok(bytes)
            }
            Source::Program { pieces, .. } => {
                let mut bytes = Vec::new();
                while let Ok(piece) = pieces.try_recv() {
                    bytes.extend(piece);
                }
                Ok(bytes)
            }
            Source::Broken(why) => Err(io::Error::other(why.clone())),
        }
    }
}

fn start(words: &[String]) -> Result<Source, String> {
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let mut output = child.stdout.take().ok_or("the program has no output")?;
    let (piece, pieces) = mpsc::channel(WAITING);
    // Ends with the program, or when nobody looks any more.
    tokio::spawn(async move {
        let mut buffer = [0; PIECE];
        while let Ok(read @ 1..) = output.read(&mut buffer).await {
            if piece.send(buffer[..read].to_vec()).await.is_err() {
                break;
            }
        }
    });
    Ok(Source::Program {
        _program: child,
        pieces,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn a_file_is_read_from_the_beginning_of_the_boot_on_and_anew_when_it_was_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r1s1.log");
        std::fs::write(&path, "earlier\n").unwrap();
        let mut source = Source::open(&SerialLine::File("r1s1.log".into()), folder.path());
        assert_eq!(source.read().await.unwrap(), b"");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"SeaBIOS\n").unwrap();
        assert_eq!(source.read().await.unwrap(), b"SeaBIOS\n");
        assert_eq!(source.read().await.unwrap(), b"");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(source.read().await.unwrap(), b"new\n");
        std::fs::remove_file(&path).unwrap();
        assert!(source.read().await.is_err());
        std::fs::write(&path, vec![b'x'; usize::try_from(MOST).unwrap() * 3]).unwrap();
        assert_eq!(source.read().await.unwrap().len() as u64, MOST, "the last of it");
    }

    #[tokio::test]
    async fn a_program_is_read_as_it_prints_and_one_that_is_not_there_is_told() {
        let words = ["sh", "-c", "echo POST; exec sleep 60"].map(str::to_owned);
        let mut source = Source::open(&SerialLine::Command(words.into()), Path::new("/"));
        let mut said = Vec::new();
        while said != b"POST\n" {
            said.extend(source.read().await.unwrap());
            tokio::task::yield_now().await;
        }
        let none = SerialLine::Command(vec!["/no/such/program".to_owned()]);
        let error = Source::open(&none, Path::new("/")).read().await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
