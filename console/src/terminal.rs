//! The terminal of whoever asked for a console: raw while it lasts, as it was before in every case.
//!
//! Standard input is read by a thread of its own, because a read of a terminal cannot be given up; the thread ends with the process. Where standard input is no terminal, what
//! comes from it is typed, and its end is the end-of-file character, so that `echo id | … console SERVER` works.

use crate::Stream;
use leaseboot_protocol::console::{Decoder, Frame, Party, WindowSize};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Pieces of typed bytes that may wait for the connection.
const WAITING: usize = 16;
/// The terminal's end of file.
const END_OF_FILE: u8 = 4;

/// What was typed, and whether it asks to leave: `~.` at the beginning of a line, as in ssh.
#[derive(Debug)]
struct Escape {
    line_begins: bool,
    tilde: bool,
}

impl Default for Escape {
    fn default() -> Self {
        Self {
            line_begins: true,
            tilde: false,
        }
    }
}

impl Escape {
    /// What of `typed` is meant for the server; `None` when the person leaves.
    fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' => return None,
                    // Said twice, it is meant once.
                    b'~' => {
                        passed.push(b'~');
                        self.line_begins = false;
                        continue;
                    }
                    _ => passed.push(b'~'),
                }
            } else if self.line_begins && byte == b'~' {
                self.tilde = true;
                continue;
            }
            self.line_begins = matches!(byte, b'\r' | b'\n');
            passed.push(byte);
        }
        Some(passed)
    }
}

/// Puts a terminal back as it was.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The size of the terminal; the usual one where there is none.
pub fn size() -> WindowSize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => WindowSize {
            columns: size.ws_col,
            rows: size.ws_row,
        },
        _ => WindowSize::default(),
    }
}

/// Connects the terminal with a session until that ends; gives the reason in words.
///
/// # Errors
/// Those of the terminal.
pub async fn attach(stream: impl Stream) -> io::Result<String> {
    let raw = Raw::enter()?;
    let mut typed = read_keys(raw.is_some());
    let mut resized = signal(SignalKind::window_change())?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut escape = Escape::default();
    let mut send = async |frame: Frame| writer.write_all(&frame.encode()).await;
    if send(Frame::Size(size())).await.is_err() {
        return Ok("the connection broke".to_owned());
    }
    let show = show(&mut reader);
    tokio::pin!(show);
    loop {
        // Goal: the end of the session. A key that was taken out of its queue is sent before the next look; what is shown goes on where it was.
        let sent = tokio::select! {
            ended = &mut show => return ended,
            _ = resized.recv() => send(Frame::Size(size())).await,
            Some(bytes) = typed.recv() => {
                let passed = if raw.is_some() { escape.pass(&bytes) } else { Some(bytes) };
                let Some(passed) = passed else {
                    let _ = send(Frame::End("they typed ~.".to_owned())).await;
                    return Ok("you left".to_owned());
                };
                let mut sent = Ok(());
                for frame in Frame::of_bytes(Party::Person, &passed) {
                    sent = send(frame).await;
                }
                sent
            }
        };
        if sent.is_err() {
            // Why it broke may still be readable.
            return show.await;
        }
    }
}

async fn show(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<String> {
    let mut decoder = Decoder::new(Party::Server);
    let mut buffer = [0; 4096];
    loop {
        let read = match reader.read(&mut buffer).await {
            Ok(0) => return Ok("the connection was closed".to_owned()),
            Ok(read) => read,
            Err(error) => return Ok(format!("the connection broke: {error}")),
        };
        let frames = decoder.read(&buffer[..read]).map_err(io::Error::other)?;
        let mut out = io::stdout().lock();
        for frame in frames {
            match frame {
                Frame::Output(bytes) => out.write_all(&bytes)?,
                Frame::End(words) => {
                    out.flush()?;
                    return Ok(words);
                }
                Frame::Input(_) | Frame::Size(_) => {}
            }
        }
        out.flush()?;
    }
}

fn read_keys(terminal: bool) -> mpsc::Receiver<Vec<u8>> {
    let (keys, typed) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        let mut stdin = io::stdin().lock();
        while let Ok(read) = stdin.read(&mut buffer) {
            let ended = read == 0;
            let bytes = match ended {
                true if terminal => return,
                true => vec![END_OF_FILE],
                false => buffer[..read].to_vec(),
            };
            if keys.blocking_send(bytes).is_err() || ended {
                return;
            }
        }
    });
    typed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tilde_and_a_dot_leave_only_at_the_beginning_of_a_line() {
        let pass = |typed: &[u8]| Escape::default().pass(typed);
        assert_eq!(pass(b"~."), None);
        assert_eq!(pass(b"ls\r~."), None);
        assert_eq!(pass(b"ls ~."), Some(b"ls ~.".to_vec()));
        assert_eq!(pass(b"~~."), Some(b"~.".to_vec()));
        assert_eq!(pass(b"~/x"), Some(b"~/x".to_vec()));
        let mut escape = Escape::default();
        assert_eq!(escape.pass(b"~"), Some(Vec::new()));
        assert_eq!(escape.pass(b"."), None);
    }

    proptest! {
        #[test]
        fn what_has_no_tilde_passes_as_it_is(typed in proptest::collection::vec(any::<u8>().prop_filter("tilde", |b| *b != b'~'), 0..200), piece in 1usize..50) {
            let mut escape = Escape::default();
            let passed: Vec<u8> = typed.chunks(piece).flat_map(|piece| escape.pass(piece).unwrap()).collect();
            prop_assert_eq!(passed, typed);
        }
    }
}
