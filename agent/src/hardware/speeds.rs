//! How fast an Ethernet card can be, link or no link: by ethtool's ioctl (linux/ethtool.h, `ETHTOOL_GLINKSETTINGS`), the only way that every
//! driver answers; sysfs knows only the speed of a link that is up.
#![allow(unsafe_code)]

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsRawFd as _, OwnedFd};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
/// Words of each mask that are room enough; kernels of today need four.
const MOST_WORDS: usize = 16;

/// `struct ethtool_link_settings` with room for its three masks.
#[repr(C)]
struct LinkSettings {
    command: u32,
    speed: u32,
    ports: [u8; 7],
    words: i8,
    more: [u8; 4],
    reserved: [u32; 7],
    masks: [u32; 3 * MOST_WORDS],
}

/// Link modes by bit number, first to last, with their speed in Mbit/s. Bits between them are no speeds.
const SPEEDS: [(u32, u32, u32); 27] = [
    (0, 1, 10),
    (2, 3, 100),
    (4, 5, 1_000),
    (12, 12, 10_000),
    (15, 15, 2_500),
    (17, 17, 1_000),
    (18, 20, 10_000),
    (21, 22, 20_000),
    (23, 26, 40_000),
    (27, 30, 56_000),
    (31, 33, 25_000),
    (34, 35, 50_000),
    (36, 39, 100_000),
    (40, 40, 50_000),
    (41, 41, 1_000),
    (42, 46, 10_000),
    (47, 47, 2_500),
    (48, 48, 5_000),
    (52, 56, 50_000),
    (57, 61, 100_000),
    (62, 66, 200_000),
    (67, 67, 100),
    (68, 68, 1_000),
    (69, 73, 400_000),
    (75, 79, 100_000),
    (80, 84, 200_000),
    (85, 89, 400_000),
];

/// The fastest link mode that the card supports, in Mbit/s; `None` when its driver does not tell.
pub(super) fn fastest(interface: &str) -> Option<u32> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    // The first answer is how many words the kernel wants, below zero.
    let words = ask(&socket, interface, 0)?.words.checked_neg()?;
    let answer = ask(&socket, interface, words)?;
    let supported = answer.masks.get(..usize::try_from(answer.words).ok()?)?;
    fastest_of(supported)
}

fn fastest_of(supported: &[u32]) -> Option<u32> {
    let is_set = |bit: u32| {
        let word = supported.get(bit as usize / 32);
        word.is_some_and(|word| word >> (bit % 32) & 1 == 1)
    };
    let modes = SPEEDS
        .iter()
        .filter(|(first, last, _)| (*first..=*last).any(is_set));
    modes.map(|(_, _, speed)| *speed).max()
}

fn ask(socket: &OwnedFd, interface: &str, words: i8) -> Option<LinkSettings> {
    if usize::try_from(words).ok()? > MOST_WORDS {
        return None;
    }
    let mut settings = LinkSettings {
        command: ETHTOOL_GLINKSETTINGS,
        speed: 0,
        ports: [0; 7],
        words,
        more: [0; 4],
        reserved: [0; 7],
        masks: [0; 3 * MOST_WORDS],
    };
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        // Signed on x86, unsigned on ARM.
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut settings).cast();
    // SAFETY: the descriptor is open, and both structures live until the call returns. The kernel writes the head of `settings` and three masks
    // of `words` words, which is at most MOST_WORDS.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    (result == 0).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_mode_counts() {
        assert_eq!(fastest_of(&[]), None);
        // 1000baseT, autonegotiation, twisted pair.
        assert_eq!(fastest_of(&[0b1110_1111]), Some(1_000));
        // 25000baseCR and 10000baseT; 100000baseKR4 in the second word.
        assert_eq!(fastest_of(&[1 << 31 | 1 << 12]), Some(25_000));
        assert_eq!(fastest_of(&[1 << 31 | 1 << 12, 1 << 4]), Some(100_000));
    }

    #[test]
    fn the_loopback_interface_has_no_link_modes() {
        assert_eq!(fastest("lo"), None);
        assert_eq!(fastest("a-name-that-is-too-long-for-an-interface"), None);
    }

    #[test]
    fn the_layout_is_the_kernel_s() {
        assert_eq!(std::mem::offset_of!(LinkSettings, words), 15);
        assert_eq!(std::mem::offset_of!(LinkSettings, masks), 48);
    }
}
