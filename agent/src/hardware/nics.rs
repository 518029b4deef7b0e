//! Ethernet cards, from `/sys/class/net` (kernel document ABI/testing/sysfs-class-net).

use super::{speeds, text};
use leaseboot_protocol::hardware::Nic;
use std::fs;
use std::path::Path;

/// `ARPHRD_ETHER` of linux/if_arp.h.
const ETHERNET: &str = "1";

/// All cards that have hardware behind them, by name.
pub(super) fn read(net: &Path) -> Vec<Nic> {
    let mut nics: Vec<_> = fs::read_dir(net)
        .map(|entries| entries.flatten().filter_map(|entry| nic(&entry.path())).collect())
        .unwrap_or_default();
    nics.sort_by(|a: &Nic, b: &Nic| a.name.cmp(&b.name));
    nics
}

fn nic(folder: &Path) -> Option<Nic> {
    if !folder.join("device").exists() || text(&folder.join("type")) != ETHERNET {
        return None;
    }
    let driver = fs::read_link(folder.join("device/driver")).ok();
    let name = folder.file_name()?.to_string_lossy().into_owned();
    Some(Nic {
        max_speed_mbps: speeds::fastest(&name),
        name,
        mac: text(&folder.join("address")).parse().ok()?,
        driver: driver
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        speed_mbps: text(&folder.join("speed"))
            .parse()
            .ok()
            .filter(|speed| *speed != u32::MAX),
        carrier: text(&folder.join("carrier")) == "1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cards_and_leaves_virtual_interfaces_out() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        for (name, device) in [("eth0", true), ("lo", false)] {
            put(&format!("{name}/type"), "1\n");
            put(&format!("{name}/address"), "52:54:00:00:00:01\n");
            if device {
                put(&format!("{name}/device/vendor"), "x");
            }
        }
        put("eth0/speed", "-1\n");
        put("eth0/carrier", "1\n");
        let nics = read(root.path());
        assert_eq!(nics.len(), 1);
        assert_eq!(
            (nics[0].name.as_str(), nics[0].speed_mbps, nics[0].carrier),
            ("eth0", None, true)
        );
    }
}
