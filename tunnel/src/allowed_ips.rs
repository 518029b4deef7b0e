//! Which peer an inner address belongs to: WireGuard's cryptokey routing (wireguard.com/papers, section 3).
//!
//! It is asked for every packet, so it is a map for each length of prefix that there is, longest first: with hundreds of peers that have one
//! address each, that is one look. A network belongs to one peer at a time; giving it to another moves it, as wg(8) does.

use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// Networks and their owners.
#[derive(Clone, Debug)]
pub struct AllowedIps<Owner> {
    /// By length of prefix, longest first; none is empty.
    levels: Vec<(u8, HashMap<IpNet, Owner>)>,
}

impl<Owner> Default for AllowedIps<Owner> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<Owner: Copy + Eq> AllowedIps<Owner> {
    /// Gives `network` to `owner`, whoever had it before.
    pub fn assign(&mut self, network: IpNet, owner: Owner) {
        let network = network.trunc();
        let length = network.prefix_len();
        let at = self.levels.partition_point(|(held, _)| *held > length);
        if self.levels.get(at).is_none_or(|(held, _)| *held != length) {
            self.levels.insert(at, (length, HashMap::new()));
        }
        self.levels[at].1.insert(network, owner);
    }

    /// Takes everything from `owner`.
    pub fn remove_owner(&mut self, owner: Owner) {
        for (_, level) in &mut self.levels {
            level.retain(|_, held_by| *held_by != owner);
        }
        self.levels.retain(|(_, level)| !level.is_empty());
    }

    /// Who owns the longest prefix that contains `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<Owner> {
        self.levels.iter().find_map(|(length, level)| {
            // A prefix that is longer than the address has is another family's.
            let network = IpNet::new(address, *length).ok()?.trunc();
            level.get(&network).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_prefix_wins_and_networks_move() {
        let mut table = AllowedIps::default();
        table.assign("10.0.0.0/8".parse().unwrap(), 'a');
        table.assign("10.99.0.7/32".parse().unwrap(), 'b');
        assert_eq!(table.lookup("10.99.0.7".parse().unwrap()), Some('b'));
        assert_eq!(table.lookup("10.99.0.8".parse().unwrap()), Some('a'));
        assert_eq!(table.lookup("192.0.2.1".parse().unwrap()), None);
        table.assign("10.99.0.7/32".parse().unwrap(), 'c');
        assert_eq!(table.lookup("10.99.0.7".parse().unwrap()), Some('c'));
        table.assign("2001:db8::/32".parse().unwrap(), 'd');
        table.assign("::/0".parse().unwrap(), 'e');
        assert_eq!(table.lookup("2001:db8::7".parse().unwrap()), Some('d'));
        assert_eq!(table.lookup("2001:db9::7".parse().unwrap()), Some('e'));
        assert_eq!(table.lookup("192.0.2.1".parse().unwrap()), None);
        table.remove_owner('c');
        assert_eq!(table.lookup("10.99.0.7".parse().unwrap()), Some('a'));
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_search(
            networks in prop::collection::vec((any::<u32>(), 0u8..=32, 0u8..4), 0..20),
            address in any::<u32>(),
        ) {
            let mut table = AllowedIps::default();
            let mut plain = std::collections::BTreeMap::new();
            for (bits, length, owner) in networks {
                let network = IpNet::new(IpAddr::from(std::net::Ipv4Addr::from(bits)), length).unwrap().trunc();
                table.assign(network, owner);
                plain.insert(network, owner);
            }
            let address = IpAddr::from(std::net::Ipv4Addr::from(address));
            let best = plain.iter().filter(|(network, _)| network.contains(&address))
                .max_by_key(|(network, _)| network.prefix_len()).map(|(_, owner)| *owner);
            prop_assert_eq!(table.lookup(address), best);
        }
    }
}
