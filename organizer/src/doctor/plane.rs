//! Who carries the tunnel's packets: the kernel's WireGuard or the daemon, and whether that is what po.toml asks for.

use super::Finding;
use crate::config::GatewayConfig;
use leaseboot_tunnel::{PlaneChoice, kernel};
use std::path::Path;

const CHECK: &str = "plane";

/// What a device of the gateway's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// WireGuard in the kernel.
    Kernel,
    /// A TUN device, behind which a program does it.
    User,
    /// Neither.
    Other,
}

pub(super) fn examine(gateway: &GatewayConfig, serves: bool) -> Finding {
    let kind = serves.then(|| kind(&gateway.interface)).flatten();
    judge(gateway.plane, kind, kernel::is_available())
}

/// Sysfs tells: `uevent` names the kind of devices that the kernel makes, and only TUN devices have `tun_flags`.
fn kind(interface: &str) -> Option<Kind> {
    let folder = Path::new("/sys/class/net").join(interface);
    let uevent = std::fs::read_to_string(folder.join("uevent")).ok()?;
    Some(if uevent.lines().any(|line| line == "DEVTYPE=wireguard") {
        Kind::Kernel
    } else if folder.join("tun_flags").exists() {
        Kind::User
    } else {
        Kind::Other
    })
}

fn judge(choice: PlaneChoice, running: Option<Kind>, kernel_can: bool) -> Finding {
    let restart = "restart the daemon: systemctl restart leaseboot-po";
    match (choice, running, kernel_can) {
        (_, Some(Kind::Other), _) => Finding::problem(
            CHECK,
            "the gateway's device is neither WireGuard nor TUN",
            "name another `interface` in po.toml",
        ),
        (PlaneChoice::Kernel, _, false) => Finding::problem(
            CHECK,
            "po.toml asks for the kernel's WireGuard, and this kernel has none",
            "modprobe wireguard, or take `plane` out of [gateway] in po.toml",
        ),
        (PlaneChoice::Kernel, Some(Kind::User), true) => Finding::problem(
            CHECK,
            "the daemon carries the packets, and not the kernel",
            restart,
        ),
        (PlaneChoice::User, Some(Kind::Kernel), _) => Finding::problem(
            CHECK,
            "the kernel carries the packets, and not the daemon",
            restart,
        ),
        (PlaneChoice::Auto, Some(Kind::User), true) => Finding::warning(
            CHECK,
            "the daemon carries the packets, and the kernel could by now",
            restart,
        ),
        (_, Some(Kind::Kernel), _) => Finding::ok(CHECK, "the kernel's WireGuard carries the packets"),
        (PlaneChoice::Auto | PlaneChoice::Kernel, None, true) => {
            Finding::ok(CHECK, "the kernel's WireGuard will carry the packets")
        }
        (PlaneChoice::Auto, _, false) => Finding::ok(
            CHECK,
            "the daemon carries the packets: this kernel has no WireGuard",
        ),
        (PlaneChoice::User, _, _) => Finding::ok(CHECK, "the daemon carries the packets, as po.toml says"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_carries_is_what_was_asked_for() {
        use PlaneChoice::{Auto, Kernel, User};
        for (choice, running, kernel_can, verdict) in [
            (Auto, None, true, Verdict::Ok),
            (Auto, None, false, Verdict::Ok),
            (Auto, Some(Kind::Kernel), true, Verdict::Ok),
            (Auto, Some(Kind::User), false, Verdict::Ok),
            (Auto, Some(Kind::User), true, Verdict::Warning),
            (Auto, Some(Kind::Other), true, Verdict::Problem),
            (Kernel, None, true, Verdict::Ok),
            (Kernel, None, false, Verdict::Problem),
            (Kernel, Some(Kind::User), true, Verdict::Problem),
            (Kernel, Some(Kind::Kernel), true, Verdict::Ok),
            (User, None, true, Verdict::Ok),
            (User, Some(Kind::User), true, Verdict::Ok),
            (User, Some(Kind::Kernel), true, Verdict::Problem),
        ] {
            let judged = judge(choice, running, kernel_can).verdict;
            assert_eq!(judged, verdict, "{choice:?} {running:?} {kernel_can}");
        }
    }

    #[test]
    fn the_loopback_device_is_neither() {
        assert_eq!(kind("lo"), Some(Kind::Other));
        assert_eq!(kind("no-such-device"), None);
    }
}
