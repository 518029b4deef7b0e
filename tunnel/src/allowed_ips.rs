//! Which peer an inner address belongs to: WireGuard's cryptokey routing (wireguard.com/papers, section 3).
//!
//! The table is small (a few networks per peer), so it is a sorted list that is searched from the longest prefix down. A network
//! belongs to one peer at a time; giving it to another moves it, as wg(8) does.

use ipnet::IpNet;
use std::net::IpAddr;

/// Networks and their owners, longest prefix first.
#[derive(Clone, Debug)]
pub struct AllowedIps<Owner> {
    networks: Vec<(IpNet, Owner)>,
}

impl<Owner> Default for AllowedIps<Owner> {
    fn default() -> Self {
        Self { networks: Vec::new() }
    }
}

impl<Owner: Copy + Eq> AllowedIps<Owner> {
    /// Gives `network` to `owner`, whoever had it before.
    pub fn assign(&mut self, network: IpNet, owner: Owner) {
        let network = network.trunc();
        self.networks.retain(|(held, _)| *held != network);
        let at = self
            .networks
            .partition_point(|(held, _)| held.prefix_len() >= network.prefix_len());
        self.networks.insert(at, (network, owner));
    }

    /// Takes everything from `owner`.
    pub fn remove_owner(&mut self, owner: Owner) {
        self.networks.retain(|(_, held_by)| *held_by != owner);
    }

    /// Who owns the longest prefix that contains `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<Owner> {
        self.networks
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, owner)| *owner)
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
