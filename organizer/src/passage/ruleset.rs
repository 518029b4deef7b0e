//! The table in nftables' JSON (libnftables-json(5)). Pure.
//!
//! Verdicts are `return` and `drop`, never `accept`: a packet that passes here still has the host's own rules before it.

use super::{Opening, Ports};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddrV4;

const FAMILY: &str = "inet";
const INSTALLS: &str = "installs";
const MEMBERS: &str = "members";
const SERVING: &str = "serving";

/// The rules for one tunnel device.
pub(super) struct Ruleset {
    interface: String,
    table: String,
    service: SocketAddrV4,
}

impl Ruleset {
    pub(super) fn new(interface: &str, service: SocketAddrV4) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let table = format!(
            "leaseboot_po_{}",
            interface.chars().map(plain).collect::<String>()
        );
        Self {
            interface: interface.to_owned(),
            table,
            service,
        }
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Makes the table with all that is open, in place of whatever was there.
    pub(super) fn whole(&self, open: &BTreeSet<Opening>) -> Value {
        let mut commands = vec![self.add_table(), self.delete_table(), self.add_table()];
        let address = "ipv4_addr";
        commands.push(self.add_set(
            INSTALLS,
            json!([address, address, "inet_proto", "inet_service"]),
            true,
        ));
        commands.push(self.add_set(MEMBERS, json!([address, address]), true));
        commands.push(self.add_set(SERVING, json!(address), false));
        for chain in ["from_tunnel", "to_tunnel"] {
            commands.push(
                json!({ "add": { "chain": { "family": FAMILY, "table": self.table, "name": chain } } }),
            );
        }
        for hook in ["input", "forward"] {
            commands.push(json!({ "add": { "chain": {
                "family": FAMILY, "table": self.table, "name": hook, "type": "filter", "hook": hook, "prio": 0, "policy": "accept"
            } } }));
            commands.push(self.rule(
                hook,
                vec![
                    self.device("iifname"),
                    json!({ "jump": { "target": "from_tunnel" } }),
                ],
            ));
        }
        commands.push(self.rule(
            "forward",
            vec![
                self.device("oifname"),
                json!({ "jump": { "target": "to_tunnel" } }),
            ],
        ));
        commands.extend(self.rules_from_tunnel());
        commands.extend(self.rules_to_tunnel());
        commands.extend(self.elements("add", open.iter()));
        json!({ "nftables": commands })
    }

    /// Takes from `applied` to `wanted`.
    pub(super) fn change(&self, applied: &BTreeSet<Opening>, wanted: &BTreeSet<Opening>) -> Value {
        let mut commands = self.elements("delete", applied.difference(wanted));
        commands.extend(self.elements("add", wanted.difference(applied)));
        json!({ "nftables": commands })
    }

    /// What a server sends. The gateway's own service decides for itself whom it answers. Answers pass: somebody inside began that connection, which [`Ruleset::rules_to_tunnel`] let pass.
    fn rules_from_tunnel(&self) -> Vec<Value> {
        let source = payload("ip", "saddr");
        let destination = payload("ip", "daddr");
        let transport = [json!({ "meta": { "key": "l4proto" } }), payload("th", "dport")];
        let door: Vec<_> = [source.clone(), destination.clone()]
            .into_iter()
            .chain(transport)
            .collect();
        let gateway = equals(payload("ip", "daddr"), json!(self.service.ip()));
        let port = equals(payload("tcp", "dport"), json!(self.service.port()));
        let ping = equals(payload("icmp", "type"), json!("echo-request"));
        let answer = [
            contains(json!({ "ct": { "key": "state" } }), json!(["established"])),
            equals(json!({ "ct": { "key": "direction" } }), json!("reply")),
        ];
        let related = [contains(json!({ "ct": { "key": "state" } }), json!(["related"]))];
        vec![
            self.rule("from_tunnel", returning(answer)),
            self.rule("from_tunnel", returning(related)),
            self.rule("from_tunnel", returning([gateway.clone(), port])),
            self.rule("from_tunnel", returning([gateway, ping])),
            self.rule(
                "from_tunnel",
                returning([equals(json!({ "concat": door }), set(INSTALLS))]),
            ),
            self.rule(
                "from_tunnel",
                returning([equals(json!({ "concat": [source, destination] }), set(MEMBERS))]),
            ),
            self.refuse("from_tunnel"),
        ]
    }

    /// What is sent to a server: answers, and whatever is meant for a member.
    fn rules_to_tunnel(&self) -> Vec<Value> {
        let going_on = [contains(
            json!({ "ct": { "key": "state" } }),
            json!(["established", "related"]),
        )];
        let member = [equals(payload("ip", "daddr"), set(SERVING))];
        vec![
            self.rule("to_tunnel", returning(going_on)),
            self.rule("to_tunnel", returning(member)),
            self.refuse("to_tunnel"),
        ]
    }

    /// Counted and refused with a word, so that an installer fails at once and not after a minute of silence.
    fn refuse(&self, chain: &str) -> Value {
        let refusal = json!({ "reject": { "type": "icmpx", "expr": "admin-prohibited" } });
        self.rule(
            chain,
            vec![json!({ "counter": { "packets": 0, "bytes": 0 } }), refusal],
        )
    }

    fn elements<'a>(&self, verb: &str, openings: impl Iterator<Item = &'a Opening>) -> Vec<Value> {
        let (mut installs, mut members, mut serving) = (Vec::new(), Vec::new(), Vec::new());
        for opening in openings {
            match opening {
                Opening::Install {
                    from,
                    to,
                    protocol,
                    ports,
                } => installs.push(json!({ "concat": [from, to, protocol, range(*ports)] })),
                Opening::Member { from, to } => {
                    let network = match to.prefix_len() {
                        32 => json!(to.addr()),
                        length => json!({ "prefix": { "addr": to.network(), "len": length } }),
                    };
                    members.push(json!({ "concat": [from, network] }));
                }
                Opening::Serving { member } => serving.push(json!(member)),
            }
        }
        [(INSTALLS, installs), (MEMBERS, members), (SERVING, serving)]
            .into_iter()
            .filter(|(_, elements)| !elements.is_empty())
            .map(|(name, elements)| {
                json!({ verb: { "element": { "family": FAMILY, "table": self.table, "name": name, "elem": elements } } })
            })
            .collect()
    }

    fn add_table(&self) -> Value {
        json!({ "add": { "table": { "family": FAMILY, "name": self.table } } })
    }

    fn delete_table(&self) -> Value {
        json!({ "delete": { "table": { "family": FAMILY, "name": self.table } } })
    }

    fn add_set(&self, name: &str, kind: Value, intervals: bool) -> Value {
        let mut set = json!({ "family": FAMILY, "table": self.table, "name": name, "type": kind });
        if intervals {
            set["flags"] = json!(["interval"]);
        }
        json!({ "add": { "set": set } })
    }

    fn device(&self, key: &str) -> Value {
        equals(json!({ "meta": { "key": key } }), json!(self.interface))
    }

    fn rule(&self, chain: &str, statements: Vec<Value>) -> Value {
        json!({ "add": { "rule": { "family": FAMILY, "table": self.table, "chain": chain, "expr": statements } } })
    }
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn set(name: &str) -> Value {
    json!(format!("@{name}"))
}

fn equals(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

fn contains(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "in", "left": left, "right": right } })
}

fn returning<const N: usize>(matches: [Value; N]) -> Vec<Value> {
    matches.into_iter().chain([json!({ "return": null })]).collect()
}

fn range((first, last): Ports) -> Value {
    match first == last {
        true => json!(first),
        false => json!({ "range": [first, last] }),
    }
}
