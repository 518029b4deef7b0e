//! Mistakes in `[[install_server]]` and `[[cache]]`, which follow the ten lines of a po.toml that is right.

use super::{PO, folder};
use leaseboot_po::config::PoConfig;

fn install_server(address: &str, ports: &str) -> String {
    format!("[[install_server]]\nname = \"packages\"\naddress = \"{address}\"\nports = {ports}\n")
}

fn cache(name: &str, upstream: &str, max_bytes: &str) -> String {
    format!("[[cache]]\nname = \"{name}\"\nupstream = \"{upstream}\"\nmax_bytes = \"{max_bytes}\"\n")
}

#[test]
fn mistakes_in_install_servers_and_caches_are_told_with_their_line() {
    let (server, mirror) = ("172.20.0.5", "http://172.20.0.5/debian");
    let good_server = install_server(server, "[80, \"30000-30100\"]");
    let good_cache = cache("debian", mirror, "20 GiB");
    let folder = folder();
    let path = folder.path().join("po.toml");
    let read = |added: &str| PoConfig::check(&path, &format!("{PO}{added}"));
    read(&(good_server.clone() + &good_cache)).unwrap();
    for (added, line, words) in [
        (
            install_server(server, "[0]"),
            14,
            "a port is a number from 1 to 65535",
        ),
        (install_server(server, "[\"90-80\"]"), 14, "a range such as"),
        (install_server(server, "[]"), 12, "has no ports"),
        (
            install_server("192.0.2.1", "[80]"),
            13,
            "in no network of `tunnel` or `allowed`",
        ),
        (good_server.repeat(2), 16, "empty or given twice"),
        (
            good_server.clone() + "protocol = \"icmp\"\n",
            15,
            "unknown variant `icmp`",
        ),
        (
            cache("debian", "ftp://172.20.0.5", "20 GiB"),
            13,
            "is not an address such as",
        ),
        (cache("debian", mirror, "20 MiB"), 14, "is not a size of"),
        (cache("de/bian", mirror, "20 GiB"), 12, "letters, digits, - and _"),
        (good_cache.repeat(2), 16, "given twice"),
        (good_cache.clone() + "sice = 1\n", 15, "unknown field `sice`"),
        (
            good_cache.clone() + "ca = \"ca.pem\"\n",
            15,
            "ca is for an upstream that begins with https://",
        ),
        (
            cache("debian", "https://mirror.example", "20 GiB") + "ca = \"ca.pem\"\n",
            15,
            "ca.pem is not there",
        ),
    ] {
        let told = read(&added).unwrap_err().to_string();
        let place = format!("po.toml:{line}: ");
        assert!(told.contains(&place) && told.contains(words), "{added}{told}");
    }
}
