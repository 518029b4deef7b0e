//! What a program or a serial line said: kept in a file for people and in memory for scenarios that wait for a word.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

/// A growing text, line by line. Clones are the same text.
#[derive(Clone)]
pub struct Transcript {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    fatal: &'static [&'static str],
    begun: Instant,
    text: Mutex<Text>,
    grown: watch::Sender<()>,
}

struct Text {
    file: File,
    lines: Vec<String>,
    /// The line that has no end yet: a prompt, or half of a packet.
    rest: Vec<u8>,
}

/// A place in a transcript: what follows it is yet to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

impl Transcript {
    /// An empty transcript of `name`, copied to the file at `path`. A line that contains one of `fatal` ends every wait with an error.
    pub fn new(name: &str, path: &Path, fatal: &'static [&'static str]) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let text = Text {
            file,
            lines: Vec::new(),
            rest: Vec::new(),
        };
        let inner = Inner {
            name: name.to_owned(),
            fatal,
            begun: Instant::now(),
            text: Mutex::new(text),
            grown: watch::Sender::new(()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes in everything that `reader` gives until it ends.
    pub async fn follow(self, mut reader: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        // A read that fails is an end as well: the other side is gone.
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            self.append(&buffer[..length]);
        }
    }

    /// Adds a line of the laboratory's own.
    pub fn note(&self, line: &str) {
        self.append(format!("\n--- {line}\n").as_bytes());
    }

    /// The present end.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().lines.len())
    }

    /// All lines after `mark`.
    pub fn since(&self, mark: Mark) -> Vec<String> {
        self.lock().lines.iter().skip(mark.0).cloned().collect()
    }

    /// The last `count` lines, for a person to read.
    pub fn tail(&self, count: usize) -> String {
        let text = self.lock();
        let skipped = text.lines.len().saturating_sub(count);
        let mut tail = text.lines[skipped..].join("\n");
        if !text.rest.is_empty() {
            tail = format!("{tail}\n{}", plain(&text.rest));
        }
        tail
    }

    /// Waits until some line contains `needle`, and gives that line.
    pub async fn wait_for(&self, needle: &str, within: Duration) -> Result<String> {
        self.wait_for_after(Mark::default(), needle, within).await
    }

    /// As [`Transcript::wait_for`], but looks only at what follows `mark`.
    pub async fn wait_for_after(&self, mark: Mark, needle: &str, within: Duration) -> Result<String> {
        let mut grown = self.inner.grown.subscribe();
        let search = async {
            let mut from = mark.0;
            loop {
                grown.borrow_and_update();
                if let Some(line) = self.look(&mut from, needle)? {
                    return Ok(line);
                }
                grown.changed().await.context("the transcript is gone")?;
            }
        };
        match tokio::time::timeout(within, search).await {
            Ok(found) => found,
            Err(_) => bail!(
                "{}: no {needle:?} within {} s; last seen:\n{}",
                self.inner.name,
                within.as_secs(),
                self.tail(8)
            ),
        }
    }

    /// Looks from line `from` on, and moves `from` to the first line that was not complete.
    fn look(&self, from: &mut usize, needle: &str) -> Result<Option<String>> {
        let text = self.lock();
        for line in &text.lines[(*from).min(text.lines.len())..] {
            if line.contains(needle) {
                return Ok(Some(line.clone()));
            }
            if self.inner.fatal.iter().any(|fatal| line.contains(fatal)) {
                bail!("{}: while waiting for {needle:?} came: {line}", self.inner.name);
            }
        }
        *from = text.lines.len();
        let rest = plain(&text.rest);
        Ok(rest.contains(needle).then_some(rest))
    }

    fn append(&self, bytes: &[u8]) {
        let mut text = self.lock();
        let at = self.inner.begun.elapsed().as_secs_f64();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            text.rest.extend_from_slice(piece);
            if text.rest.ends_with(b"\n") {
                let line = plain(&std::mem::take(&mut text.rest));
                // The file is a copy for people; a full disk must not hide the scenario's own outcome.
                drop(writeln!(text.file, "[{at:8.2}] {line}"));
                text.lines.push(line);
            }
        }
        drop(text);
        self.inner.grown.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.inner.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text without line ends and terminal control sequences (ECMA-48), with which firmware and GRUB draw their screens.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                // Parameters, then one final byte from '@' to '~'.
                while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\t' => plain.push('\t'),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(fatal: &'static [&'static str]) -> (tempfile::TempDir, Transcript) {
        let folder = tempfile::tempdir().unwrap();
        let transcript = Transcript::new("serial", &folder.path().join("log"), fatal).unwrap();
        (folder, transcript)
    }

    #[tokio::test]
    async fn finds_a_word_that_comes_in_two_pieces_and_a_prompt_without_line_end() {
        let (_folder, transcript) = transcript(&[]);
        let waiter = tokio::spawn({
            let transcript = transcript.clone();
            async move { transcript.wait_for("hello", Duration::from_secs(5)).await }
        });
        transcript.append(b"\x1b[1;31mhel");
        transcript.append(b"lo\x1b[0m wor");
        assert_eq!(waiter.await.unwrap().unwrap(), "hello wor");
        transcript.append(b"ld\r\n");
        assert_eq!(transcript.since(Mark::default()), ["hello world"]);
    }

    #[tokio::test]
    async fn a_wait_in_vain_tells_what_was_seen_last_and_a_panic_ends_it_at_once() {
        let (_folder, transcript) = transcript(&["Kernel panic"]);
        transcript.append(b"one\ntwo\n");
        let error = transcript.wait_for("three", Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().ends_with("last seen:\none\ntwo"), "{error}");
        let mark = transcript.mark();
        transcript.append(b"Kernel panic - not syncing\n");
        let error = transcript
            .wait_for_after(mark, "three", Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("not syncing"), "{error}");
    }
}
