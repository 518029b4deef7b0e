//! The files of one cache. An entry is a description (`KEY.json`), which names its body (`KEY-NUMBER.body`): both appear whole, the body first, so that
//! a process that is killed in between leaves a body that nothing names, and the next start takes it away.

use super::index::{Index, Reservation};
use crate::files;
use leaseboot_protocol::digest::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

const LONGEST_DESCRIPTION: u64 = 64 << 10;

/// What is kept of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The path on the upstream.
    pub(super) path: String,
    /// The body's file.
    pub(super) body: String,
    /// Its length in bytes.
    pub(super) size: u64,
    /// The upstream's validators, to ask whether it changed.
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// The files, and their order of use.
pub(super) struct Shelf {
    folder: PathBuf,
    index: Mutex<Index<Description>>,
}

/// The name of a path's entry.
pub(super) fn key(path: &str) -> String {
    Sha256::of(path.as_bytes()).to_string()
}

impl Shelf {
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(description) = read(&path, folder)
            {
                let used = fs::metadata(&path)?.modified()?;
                found.push((used, description));
            }
        }
        found.sort_by_key(|(used, _)| *used);
        let mut index = Index::new(limit);
        // A limit that was lowered takes the longest unused away, as if they came one after the other.
        for (_, description) in found {
            if let Some((room, _)) = index.reserve(description.size) {
                let (key, size) = (key(&description.path), description.size);
                index.keep(room, &key, size, description);
            }
        }
        let shelf = Self {
            folder: folder.to_owned(),
            index: Mutex::new(index),
        };
        shelf.sweep()?;
        Ok(shelf)
    }

    /// Takes away every file that is not of an entry.
    fn sweep(&self) -> io::Result<()> {
        let mut ours = BTreeSet::new();
        let index = self.index();
        let names: Vec<_> = fs::read_dir(&self.folder)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        for name in &names {
            if let Some(key) = name.strip_suffix(".json")
                && let Some(description) = index.peek(key)
            {
                ours.extend([name.clone(), description.body.clone()]);
            }
        }
        for name in names.iter().filter(|name| !ours.contains(*name)) {
            fs::remove_file(self.folder.join(name))?;
        }
        Ok(())
    }

    /// How many bytes are kept.
    pub(super) fn kept(&self) -> u64 {
        self.index().kept()
    }

    /// What is kept of a path; it is now the last used, also for the next process.
    pub(super) fn touch(&self, path: &str) -> Option<Description> {
        let key = key(path);
        let found = self.index().touch(&key).cloned()?;
        // Only the order of use depends on it.
        let _ = File::options()
            .append(true)
            .open(self.description(&key))
            .and_then(|file| file.set_modified(SystemTime::now()));
        Some(found)
    }

    pub(super) fn body(&self, description: &Description) -> PathBuf {
        self.folder.join(&description.body)
    }

    /// Room for `size` bytes; what has to go for it goes at once.
    pub(super) fn reserve(&self, size: u64) -> Option<Reservation> {
        let (room, gone) = self.index().reserve(size)?;
        for description in &gone {
            self.delete(description);
        }
        Some(room)
    }

    pub(super) fn cancel(&self, room: Reservation) {
        self.index().cancel(room);
    }

    /// A name for a body that nobody has.
    pub(super) fn fresh_body(&self, path: &str) -> String {
        let mut number = [0; 8];
        getrandom::fill(&mut number).expect("getrandom(2) gives random bytes once the kernel is up");
        format!("{}-{}.body", key(path), hex::encode(number))
    }

    /// Keeps a body that is whole and on disk.
    pub(super) fn keep(&self, room: Reservation, description: Description) -> io::Result<()> {
        let key = key(&description.path);
        let json = serde_json::to_vec(&description).expect("a description is JSON");
        let mut index = self.index();
        if let Err(error) = files::replace(&self.description(&key), 0o600, &json) {
            index.cancel(room);
            return Err(error.source);
        }
        if let Some(before) = index.keep(room, &key, description.size, description) {
            // Its description is the new one's by now.
            let _ = fs::remove_file(self.body(&before));
        }
        Ok(())
    }

    /// Whoever reads it reads on; nobody finds it any more.
    fn delete(&self, description: &Description) {
        for path in [self.description(&key(&description.path)), self.body(description)] {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an evicted file cannot be removed");
            }
        }
    }

    fn description(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn index(&self) -> MutexGuard<'_, Index<Description>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The description in a file, when the body that it names is there and whole.
fn read(path: &Path, folder: &Path) -> Option<Description> {
    if fs::metadata(path).ok()?.len() > LONGEST_DESCRIPTION {
        return None;
    }
    let description: Description = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let named = path.file_stem()?.to_str()? == key(&description.path);
    let plain = !description.body.contains('/') && description.body.ends_with(".body");
    let whole =
        || fs::metadata(folder.join(&description.body)).is_ok_and(|body| body.len() == description.size);
    (named && plain && whole()).then_some(description)
}
