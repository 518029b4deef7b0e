//! A file that a person wrote, and problems that name its line.

use super::ConfigError;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::Path;

/// A file with its text, so that a problem can name its line.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: String,
    /// Where lines end, because the lines of ten thousand servers are asked for.
    pub(super) ends: Vec<usize>,
    /// Of a text that was made from another: that one, and for each line here the line there, counted from 1.
    pub(super) origin: Option<(String, Vec<usize>)>,
}

impl<'a> Source<'a> {
    pub(super) fn read(path: &'a Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::new(path, text, None))
    }

    pub(super) fn new(path: &'a Path, text: String, origin: Option<(String, Vec<usize>)>) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self {
            path,
            text,
            ends,
            origin,
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text)
            .map_err(|error| self.problem(error.span().unwrap_or_default(), error.message().to_owned()))
    }

    pub(super) fn problem(&self, span: Range<usize>, problem: String) -> ConfigError {
        self.line_problem(self.line(span.start), problem)
    }

    pub(super) fn line_problem(&self, line: usize, problem: String) -> ConfigError {
        let text = self.origin.as_ref().map_or(&self.text, |(text, _)| text);
        let text = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        ConfigError::Line {
            path: self.path.to_owned(),
            line,
            problem,
            text: text.trim().to_owned(),
        }
    }

    /// As [`Source::problem`], for a line that must not be repeated.
    pub(super) fn problem_unquoted(&self, span: Range<usize>, problem: String) -> ConfigError {
        match self.problem(span, problem) {
            ConfigError::Line {
                path, line, problem, ..
            } => ConfigError::Line {
                path,
                line,
                problem,
                text: "(not shown)".to_owned(),
            },
            other => other,
        }
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        let line = self.ends.partition_point(|end| *end < offset);
        match &self.origin {
            Some((_, lines)) => lines.get(line).or(lines.last()).copied().unwrap_or(1),
            None => line + 1,
        }
    }
}
