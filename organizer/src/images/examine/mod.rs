//! What an image's kernel and initrd can do, found out by reading them: never unpacked to disk, never run, and every read bounded. They are the
//! tenant's own files, but a broken or hostile one must not hurt the host that looks at it (Ironic's CVE-2024-44082 and CVE-2026-44919).
//!
//! | module | reads |
//! |---|---|
//! | [`kernel`] | the first bytes of a kernel |
//! | `source`, `compression`, [`archive`] | an initrd as a stream: lookahead, decompression, cpio |
//! | [`initrd`] | what an initrd holds |
//! | [`ways`] | what of that this version can use |

pub mod archive;
pub mod compression;
pub mod initrd;
pub mod kernel;
mod source;
pub mod ways;

/// The program that the kernel runs first, by an image's own command line (the kernel's `rdinit=`; the last one counts).
pub fn init_of(command_line: &str) -> &str {
    let mut named = command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("rdinit="));
    named.next_back().unwrap_or("/init")
}

#[cfg(test)]
mod tests;
