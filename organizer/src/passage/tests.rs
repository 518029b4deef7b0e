//! What is open in which state. That the kernel does it is tested in `tests/passage.rs`.

use super::*;
use crate::borrowing::machine::tests::order;
use serde_json::json;

fn state(json: serde_json::Value) -> State {
    serde_json::from_value(json).unwrap()
}

fn transferring(stage: &str) -> State {
    state(json!({ "state": "transferring", "boot": boot(), "stage": stage, "agent": key(1) }))
}

fn member(name: &str) -> State {
    state(
        json!({ "state": name, "boot": boot(), "agent": key(1), "member": key(2), "owed": { "installed": false, "in_service": false } }),
    )
}

fn boot() -> serde_json::Value {
    json!({ "lease": "l-1", "server": "s-1", "kickstart_sha256": "0".repeat(64) })
}

fn key(n: u8) -> leaseboot_protocol::network::WireguardPublicKey {
    leaseboot_protocol::network::WireguardPublicKey([n; 32])
}

fn server(name: &str, last: u8, ports: &[Ports]) -> InstallServer {
    InstallServer {
        name: name.to_owned(),
        address: Ipv4Addr::new(172, 20, 0, last),
        protocol: Protocol::Tcp,
        ports: ports.to_vec(),
    }
}

#[test]
fn install_servers_are_open_from_the_chain_until_the_member_comes() {
    let servers = [server("packages", 5, &[(80, 80)])];
    let installs = |state: &State| {
        openings(&order(), state, &servers)
            .iter()
            .any(|opening| matches!(opening, Opening::Install { .. }))
    };
    let stages = ["booting", "stage1", "tunnel-up", "chained", "installing"];
    let open: Vec<_> = stages
        .into_iter()
        .filter(|stage| installs(&transferring(stage)))
        .collect();
    assert_eq!(open, ["chained", "installing"]);
    assert!(
        installs(&member("installed")) && !installs(&member("joining")) && !installs(&member("in-service"))
    );
    for other in [
        json!({ "state": "searching" }),
        json!({ "state": "moving", "lease": "l-1" }),
        json!({ "state": "returning", "lease": "l-1", "outcome": { "outcome": "released" } }),
    ] {
        assert!(openings(&order(), &state(other), &servers).is_empty());
    }
}

#[test]
fn a_member_reaches_its_networks_and_is_reached() {
    let from = Ipv4Addr::new(10, 99, 0, 10);
    let open: Vec<_> = openings(&order(), &member("in-service"), &[])
        .into_iter()
        .collect();
    let to = "10.99.0.0/24".parse().unwrap();
    assert_eq!(
        open,
        [Opening::Member { from, to }, Opening::Serving { member: from }]
    );
}

#[test]
fn without_install_servers_who_installs_reaches_the_networks_of_the_tunnel_and_a_member_those_of_its_profile()
{
    let mut order = order();
    order.membership.network.reach = Some(vec!["10.20.0.0/16".parse().unwrap()]);
    let networks = |state: &State| -> Vec<String> {
        let open = openings(&order, state, &[]);
        let networks = open.iter().filter_map(|opening| match opening {
            Opening::Member { to, .. } => Some(to.to_string()),
            _ => None,
        });
        networks.collect()
    };
    assert_eq!(networks(&transferring("stage1")), [""; 0]);
    for installing in [
        transferring("chained"),
        transferring("installing"),
        member("installed"),
    ] {
        assert_eq!(networks(&installing), ["10.99.0.0/24"]);
    }
    for joined in ["joining", "in-service"] {
        assert_eq!(
            networks(&member(joined)),
            ["10.20.0.0/16", "10.99.0.0/24"],
            "{joined}"
        );
    }
    assert_eq!(networks(&state(json!({ "state": "searching" }))), [""; 0]);
}

#[test]
fn a_profile_may_name_its_install_servers_and_doors_that_meet_are_one() {
    let servers = [
        server("packages", 5, &[(80, 90), (443, 443)]),
        server("mirror", 5, &[(85, 99)]),
        server("other", 6, &[(80, 80)]),
    ];
    let mut order = order();
    order.install_servers = Some(vec!["packages".to_owned(), "mirror".to_owned()]);
    let open: Vec<_> = openings(&order, &transferring("chained"), &servers)
        .into_iter()
        .filter_map(|opening| match opening {
            Opening::Install { to, ports, .. } => Some((to.octets()[3], ports)),
            _ => None,
        })
        .collect();
    assert_eq!(open, [(5, (80, 99)), (5, (443, 443))]);
    order.install_servers = Some(Vec::new());
    assert!(openings(&order, &transferring("chained"), &servers).is_empty());
}
