//! The commands with which GRUB enters what was staged. They hold the kernel command line, which is the enterprise's own, so they lie on the
//! disk and not in the LM's script.
//!
//! In single quotes GRUB's language knows no special character (GRUB manual, "Quoting"). What `linux` then makes of the words it does not leave alone:
//! it puts a backslash before quotes and backslashes, so words with these are refused instead of changed.

use super::StagingError;
use leaseboot_protocol::handover::{STAGED_KERNEL, STAGED_RAMDISK, StagingId};

/// The script; `$staged` is the partition.
pub(super) fn commands(id: &StagingId, command_line: &str) -> Result<String, StagingError> {
    let mut words = String::new();
    for word in command_line.split_whitespace() {
        let changed = |c: char| matches!(c, '\'' | '"' | '\\') || c.is_control();
        if word.contains(changed) {
            return Err(StagingError::Word {
                word: word.to_owned(),
            });
        }
        words.extend([" '", word, "'"]);
    }
    Ok(format!(
        "if linux \"(${{staged}})/{id}/{STAGED_KERNEL}\"{words}; then\n  \
           if initrd \"(${{staged}})/{id}/{STAGED_RAMDISK}\"; then\n    \
             boot\n  \
           fi\n\
         fi\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_mean_something_to_grub_reach_the_kernel_as_they_are() {
        let id = StagingId::from_random([0; 16]);
        let text = commands(&id, "quiet ds=nocloud;s=file:///run/x/ a=$b {c} --- d#e").unwrap();
        assert!(
            text.contains("'quiet' 'ds=nocloud;s=file:///run/x/' 'a=$b' '{c}' '---' 'd#e'; then"),
            "{text}"
        );
        for word in ["it's", "dyndbg=\"file", "a\\b"] {
            assert!(commands(&id, word).is_err(), "{word}");
        }
    }
}
