//! The corpus of the fuzz targets in `tests/fuzz`, for the unit tests of the crates that have them: what a fuzzer found once, and what broke others, must be
//! met at each test run and without a fuzzer.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// Changed inputs that are made of a corpus.
const CHANGED: usize = 3000;
/// The longest of them, in bytes.
const LONGEST: usize = 4096;

/// Feeds a target with each file of `tests/fuzz/corpus/NAME`, and with some thousand that small changes make of them: the same at each run.
///
/// # Panics
/// When there is no corpus, or the target panics; the input is printed then.
pub fn replay(name: &str, target: impl Fn(&[u8])) {
    let corpus = corpus(name);
    for (file, bytes) in &corpus {
        feed(&file.display().to_string(), bytes, &target);
    }
    let mut changes = Changes(1);
    for number in 0..CHANGED {
        let (_, first) = &corpus[number % corpus.len()];
        let (_, second) = &corpus[changes.below(corpus.len())];
        feed(
            &format!("change {number} of {name}"),
            &changes.of(first, second),
            &target,
        );
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

fn feed(what: &str, bytes: &[u8], target: impl Fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!(
            "{what}: {} = {:?}",
            hex::encode(bytes),
            String::from_utf8_lossy(bytes)
        );
        resume_unwind(panic);
    }
}

/// A linear congruential generator (Knuth's MMIX), and what is done by its numbers.
struct Changes(u64);

impl Changes {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound.max(1)
    }

    /// A few changes to the first input, some with parts of the second.
    fn of(&mut self, first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut bytes = first.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = at + self.below((bytes.len() - at).min(16) + 1);
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let part = bytes[at..end].to_vec();
                    let times = self.below(40);
                    bytes.splice(at..at, part.repeat(times));
                }
                3 => {
                    let from = self.below(second.len() + 1);
                    bytes.splice(at..end, second[from..].iter().copied());
                }
                4 => {
                    let word = [
                        &b"\0"[..],
                        b"\xff\xff",
                        b"-1",
                        b"18446744073709551616",
                        b"\n",
                        b"\"",
                        b"[[",
                        b"%end\n",
                        b": ",
                        b"&a ",
                        b"\xf0\x9f\x92\xbe",
                    ];
                    let word = word[self.below(word.len())];
                    bytes.splice(at..end, word.iter().copied());
                }
                _ if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
                _ => bytes.push(u8::try_from(self.below(256)).unwrap_or(0)),
            }
        }
        bytes.truncate(LONGEST);
        bytes
    }
}
