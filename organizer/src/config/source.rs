//! A configuration file with its text at hand, so that every complaint can point at a line.

use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Nobody writes a longer file by hand.
const LONGEST: u64 = 1 << 20;

/// What is wrong with a configuration, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {problem}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, when it is about one.
    pub line: Option<usize>,
    /// The value, what is wrong with it and what to do.
    pub problem: String,
    /// The cause.
    pub source: Option<io::Error>,
}

/// One file.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file; `remedy` says what to do when it is not there.
    pub(crate) fn read(path: &Path, remedy: &str) -> Result<Self, ConfigError> {
        let failed = |source: io::Error| ConfigError {
            file: path.to_owned(),
            line: None,
            problem: format!("cannot be read; {remedy}"),
            source: Some(source),
        };
        let mut bytes = Vec::new();
        let mut file = File::open(path).map_err(failed)?.take(LONGEST + 1);
        file.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LONGEST {
            let empty = Self::of_text(path, "");
            return Err(empty.whole(format!("is longer than {LONGEST} bytes; is it the right file?")));
        }
        String::from_utf8(bytes)
            .map(|text| Self::of_text(path, &text))
            .map_err(|error| {
                let good = error.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(&error.as_bytes()[..good]);
                let source = Self::of_text(path, &before);
                source.line(source.line_of(good), "is not UTF-8 text; save the file as UTF-8")
            })
    }

    /// A file that is about to be written.
    pub(crate) fn of_text(path: &Path, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The text as TOML.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let problem = error.message().replace('\n', "; ");
            match error.span() {
                Some(span) => {
                    let line = self.line_of(span.start);
                    let written = self.text.lines().nth(line - 1).unwrap_or_default().trim();
                    self.line(line, format!("{problem} (in `{written}`)"))
                }
                None => self.whole(problem),
            }
        })
    }

    /// A complaint about a value that stands at `span`; one that stands nowhere is a default, and the file's as a whole.
    pub(crate) fn at(&self, span: Range<usize>, problem: impl Into<String>) -> ConfigError {
        if span.is_empty() {
            return self.whole(problem);
        }
        self.line(self.line_of(span.start), problem)
    }

    /// A complaint about a line.
    pub(crate) fn line(&self, line: usize, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            line: Some(line),
            ..self.whole(problem)
        }
    }

    /// A complaint about the file as a whole.
    pub(crate) fn whole(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.path.clone(),
            line: None,
            problem: problem.into(),
            source: None,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The folder that the file's paths are relative to.
    pub(crate) fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}
