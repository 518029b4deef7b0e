//! The merged text as lines that know where they come from, so that a person can ask of each: whose is it, where is it written,
//! and why does it stand here.

use serde::Serialize;
use std::borrow::Cow;

/// Whose a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineOwner {
    /// The enterprise's, as it stands in its file.
    Enterprise,
    /// The lender's, from what it knows of hardware and wire.
    Lender,
    /// Written by both: the enterprise's words with the lender's beside them.
    Both,
    /// Agreed beforehand: the command that leaves the member's tunnel in the installed system.
    Agreed,
}

/// A line of the merged text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MergedLine {
    /// Counted from 1.
    pub number: usize,
    /// Whose it is.
    pub owner: LineOwner,
    /// The file that it comes from, as its owner names it.
    pub origin: String,
    /// The line in that file, counted from 1; of the lender's lines, their number among each other.
    pub origin_line: usize,
    /// Why it stands here.
    pub why: Cow<'static, str>,
    /// The line itself.
    pub text: String,
}

/// A merged text in the making.
pub(super) struct Sheet<'a> {
    enterprise: &'a str,
    lender: &'a str,
    lines: Vec<MergedLine>,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(enterprise: &'a str, lender: &'a str, expected: usize) -> Self {
        Self {
            enterprise,
            lender,
            lines: Vec::with_capacity(expected + 24),
        }
    }

    pub(super) fn enterprise(&mut self, line: usize, text: &str) {
        self.push(
            LineOwner::Enterprise,
            self.enterprise,
            line,
            "the enterprise's text",
            text,
        );
    }

    pub(super) fn both(&mut self, line: usize, text: String, why: &'static str) {
        self.push(LineOwner::Both, self.enterprise, line, why, text);
    }

    pub(super) fn lender(&mut self, line: usize, text: impl Into<String>, why: impl Into<Cow<'static, str>>) {
        self.push(LineOwner::Lender, self.lender, line, why, text);
    }

    pub(super) fn agreed(&mut self, text: impl Into<String>) {
        let why = "leaves the member's tunnel in the installed system";
        self.push(LineOwner::Agreed, "leaseboot", 1, why, text);
    }

    /// The enterprise's word, but from the lease's settings instead of the text.
    pub(super) fn settings(&mut self, text: impl Into<String>) {
        let why = "the server's name, which the text does not say";
        self.push(LineOwner::Enterprise, "the lease's settings", 1, why, text);
    }

    fn push(
        &mut self,
        owner: LineOwner,
        origin: &str,
        origin_line: usize,
        why: impl Into<Cow<'static, str>>,
        text: impl Into<String>,
    ) {
        self.lines.push(MergedLine {
            number: self.lines.len() + 1,
            owner,
            origin: origin.to_owned(),
            origin_line,
            why: why.into(),
            text: text.into(),
        });
    }

    pub(super) fn finish(self) -> Vec<MergedLine> {
        self.lines
    }
}

/// The lines as the installer reads them.
pub(super) fn text_of(lines: &[MergedLine]) -> String {
    let mut text = String::with_capacity(lines.iter().map(|line| line.text.len() + 1).sum());
    for line in lines {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}
