//! Loading and entering the enterprise's kernel. Takes only what [`crate::blob`] has verified.
#![allow(unsafe_code)]

use crate::blob::{Ramdisk, Verified};
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

/// The second kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KexecError {
    /// The command line cannot be handed over.
    #[error("the kernel command line contains a NUL byte")]
    CommandLine,
    /// The kernel refused. Under Secure Boot it takes only kernels that are signed by a key it trusts.
    #[error("the running kernel refused to load the enterprise's kernel")]
    Refused(#[source] io::Error),
}

/// kexec_file_load(2). The libc crate has no number for aarch64 with musl: it is the one of the kernel's asm-generic/unistd.h.
#[cfg(target_arch = "aarch64")]
const KEXEC_FILE_LOAD: libc::c_long = 294;
#[cfg(not(target_arch = "aarch64"))]
const KEXEC_FILE_LOAD: libc::c_long = libc::SYS_kexec_file_load;

/// Whether the running kernel has kexec_file_load(2) at all: Debian's for arm64 is built without (`CONFIG_KEXEC_FILE`).
pub(crate) fn is_there() -> bool {
    let (no_file, no_flags): (libc::c_int, libc::c_ulong) = (-1, libc::c_ulong::MAX);
    // SAFETY: no file and no memory is named, and no such flags exist, so a kernel that has the call refuses it.
    let result = unsafe {
        libc::syscall(
            KEXEC_FILE_LOAD,
            no_file,
            no_file,
            0_usize,
            std::ptr::null::<libc::c_char>(),
            no_flags,
        )
    };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Loads kernel, ramdisk and command line into place (kexec_file_load(2)). [`crate::power::enter_loaded_kernel`] enters it.
pub(crate) fn load(kernel: &Verified, ramdisk: &Ramdisk, command_line: &str) -> Result<(), KexecError> {
    let command_line = CString::new(command_line).map_err(|_| KexecError::CommandLine)?;
    let bytes = command_line.as_bytes_with_nul();
    // SAFETY: both descriptors are open for the duration of the call, and pointer and length describe the command line with
    // its NUL, which the kernel copies.
    let result = unsafe {
        libc::syscall(
            KEXEC_FILE_LOAD,
            kernel.file().as_raw_fd(),
            ramdisk.file().as_raw_fd(),
            bytes.len(),
            bytes.as_ptr(),
            0_u64,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(KexecError::Refused(io::Error::last_os_error()))
    }
}
