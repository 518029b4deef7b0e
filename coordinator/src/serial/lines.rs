//! Lines of what comes in pieces: pure, and bounded. What a firmware draws on its screen is full of cursor movements, which are left out here, so that the text that stays can be read.

use leaseboot_protocol::boot_log::{LONGEST_LINE, MOST_LINES};

/// The beginning of a line whose end has not come, and where in an escape sequence it stands.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: String,
    escape: Escape,
    complained: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    Out,
    /// Behind ESC.
    Begun,
    /// Behind ESC [.
    Inside,
}

impl Lines {
    /// The lines that these bytes complete, the last [`MOST_LINES`] of them; empty ones are left out.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for c in String::from_utf8_lossy(bytes).chars() {
            self.escape = match (self.escape, c) {
                (Escape::Out, '\u{1b}') => Escape::Begun,
                (Escape::Begun, '[') => Escape::Inside,
                (Escape::Begun, _) => Escape::Out,
                // ECMA-48, 5.4: a control sequence ends with a byte of 0x40 to 0x7e.
                (Escape::Inside, '\u{40}'..='\u{7e}') => Escape::Out,
                (Escape::Inside, _) => Escape::Inside,
                (Escape::Out, c) => {
                    let full = self.begun.len() >= LONGEST_LINE;
                    if c == '\n' || full {
                        let line = std::mem::take(&mut self.begun);
                        lines.extend(Some(line).filter(|line| !line.trim().is_empty()));
                    }
                    if !c.is_control() {
                        self.begun.push(c);
                    }
                    Escape::Out
                }
            };
        }
        let left_out = lines.len().saturating_sub(MOST_LINES);
        lines.drain(..left_out);
        lines
    }

    /// Whether a line that cannot be read is worth a word: the first time.
    pub(super) fn complain(&mut self) -> bool {
        !std::mem::replace(&mut self.complained, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_a_cursor_is_left_out_and_lines_come_whole() {
        let mut lines = Lines::default();
        assert_eq!(
            lines.take(b"\x1b[2J\x1b[01;01HSeaBIOS (ver"),
            Vec::<String>::new()
        );
        assert_eq!(
            lines.take(b"sion 1.16)\r\n\r\nMachine"),
            ["SeaBIOS (version 1.16)"]
        );
        assert_eq!(lines.take(b" UUID\x1b["), Vec::<String>::new());
        assert_eq!(lines.take(b"31m red\n"), ["Machine UUID red"]);
    }

    proptest! {
        #[test]
        fn noise_is_bounded(noise in proptest::collection::vec(any::<u8>(), 0..8000), piece in 1usize..900) {
            let mut lines = Lines::default();
            for piece in noise.chunks(piece) {
                for line in lines.take(piece) {
                    prop_assert!(line.len() <= LONGEST_LINE + 4);
                    prop_assert!(!line.chars().any(char::is_control));
                }
                prop_assert!(lines.begun.len() <= LONGEST_LINE + 4);
            }
        }
    }
}
