//! What a boot said on its console, for those who do not stand before it.
//!
//! The agent sends its own lines and the kernel's: to the LM as long as the lender's stage 1 and the wrapper work, to the PO, through the tunnel, for
//! as long as the wrapper's tunnel lives. Both keep a bounded number of bytes for each boot, the last ones.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Characters of a line; what is longer is cut.
pub const LONGEST_LINE: usize = 1000;
/// Lines of one message.
pub const MOST_LINES: usize = 400;
/// What a manager keeps of one boot, in bytes.
pub const KEPT_BYTES: usize = 256 << 10;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// Agent and kernel of stage 1.
    Stage1,
    /// Wrapper and kernel of stage 2.
    Stage2,
    /// The enterprise's installer.
    Installer,
    /// The server's serial line, as the lender reads it.
    Serial,
    /// A source that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LogSource::Stage1 => "stage 1",
            LogSource::Stage2 => "stage 2",
            LogSource::Installer => "installer",
            LogSource::Serial => "serial line",
            LogSource::Unknown => "unknown source",
        })
    }
}

/// Lines in the order in which they were said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLines {
    /// Who said them.
    pub source: LogSource,
    /// At most [`MOST_LINES`].
    pub lines: Vec<String>,
}

impl LogLines {
    /// The lines as a text that a terminal can show: bounded, without control characters, each line with its end. They come from a machine that may say anything.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().take(MOST_LINES) {
            text.extend(line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_left_out_and_all_is_bounded() {
        let lines = LogLines {
            source: LogSource::Stage2,
            lines: vec!["\u{1b}[2Jhidden\rgone".to_owned(), "x".repeat(5000)],
        };
        let text = lines.text();
        assert!(text.starts_with("[2Jhiddengone\n"));
        assert_eq!(text.len(), 14 + LONGEST_LINE + 1);
        let many = LogLines {
            source: LogSource::Unknown,
            lines: vec![String::new(); 5000],
        };
        assert_eq!(many.text().len(), MOST_LINES);
    }
}
