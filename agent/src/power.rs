//! The last thing that PID 1 does. None of these functions returns.

use crate::console::say;
use nix::sys::reboot::{RebootMode, reboot};
use std::time::Duration;

/// Powers the server off.
pub(crate) fn off() -> ! {
    say!("powering off");
    finish(RebootMode::RB_POWER_OFF)
}

/// Sends the server through its firmware again.
pub(crate) fn cycle() -> ! {
    say!("rebooting");
    finish(RebootMode::RB_AUTOBOOT)
}

/// Enters the kernel that [`crate::kexec::load`] has loaded.
pub(crate) fn enter_loaded_kernel() -> ! {
    finish(RebootMode::RB_KEXEC)
}

fn finish(mode: RebootMode) -> ! {
    nix::unistd::sync();
    let Err(error) = reboot(mode);
    say!("the kernel refused to reboot ({error}); the lease manager's deadline will cycle the power");
    // PID 1 must not return: the kernel would panic and hide the message above.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
