//! Which ports of the enterprise's servers an installer may want: the usual ones, and every one that its text or command line names. Pure but for the reading.

use leaseboot_protocol::installer::Installer;
use std::collections::BTreeSet;

/// HTTP and HTTPS, with their other customary ports; DNS; apt-cacher and squid.
const USUAL: [u16; 9] = [53, 80, 443, 3142, 5000, 8000, 8080, 8081, 8443];
/// More than any text names in earnest: each costs a socket.
const MOST: usize = 64;

/// The ports for the installation at hand, of which the gateway's is one.
pub(super) fn known(gateway: u16) -> BTreeSet<u16> {
    let installers = [
        Installer::default(),
        Installer::Preseed {},
        Installer::Autoinstall {},
    ];
    let mut ports = BTreeSet::from(USUAL);
    ports.insert(gateway);
    let texts = installers
        .map(Installer::text_path)
        .into_iter()
        .chain(["/proc/cmdline"]);
    for text in texts.filter_map(|path| std::fs::read(path).ok()) {
        let named = named_in(&String::from_utf8_lossy(&text));
        ports.extend(named.into_iter().take(MOST.saturating_sub(ports.len())));
    }
    ports
}

/// Ports behind a host of a URL or behind an IPv4 address: `http://mirror:9999/`, `172.20.0.2:9999`.
fn named_in(text: &str) -> BTreeSet<u16> {
    let is_end = |c: char| c.is_whitespace() || "/\"'`,;?#()<>\\".contains(c);
    let authorities = text
        .match_indices("://")
        .map(|(at, mark)| &text[at + mark.len()..]);
    let of_urls = authorities.filter_map(|rest| {
        let authority = rest.split(is_end).next()?;
        authority.rsplit_once(':')?.1.parse().ok()
    });
    let of_addresses = text.split(is_end).filter_map(|word| {
        let word = word.rsplit('=').next()?;
        word.parse::<std::net::SocketAddrV4>()
            .ok()
            .map(|address| address.port())
    });
    of_urls.chain(of_addresses).filter(|port| *port > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_stand_behind_hosts() {
        let text = "url --url=http://172.20.0.2:8123/debian --proxy=\"https://u:p@proxy.corp:3129\"
d-i mirror/http/hostname string 172.20.0.2:9080
d-i mirror/http/proxy string http://[2001:db8::1]:3130/
inst.repo=172.20.0.3:9999 http://plain/ 12:30 52:54:00:4c:42:01 10.0.0.1:0 http://x:99999/";
        assert_eq!(named_in(text), BTreeSet::from([8123, 3129, 9080, 3130, 9999]));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,200}") {
            let _ = named_in(&text);
        }

        #[test]
        fn every_port_of_a_url_is_found(port in 1u16.., before in "[a-z ]{0,9}", after in "(/[a-z:]{0,9})?") {
            let text = format!("{before}http://host:{port}{after}");
            prop_assert!(named_in(&text).contains(&port));
        }
    }
}
