//! Ansible's dynamic inventory, in the contract of inventory scripts: with `_meta`, so that Ansible asks once.
//!
//! | group | its hosts |
//! |---|---|
//! | `leaseboot` | all |
//! | `profile_NAME` | those of a profile |
//! | `service_NAME` | those that answer for a service |
//! | `label_NAME_VALUE` | those with a label |
//!
//! In a group's name every character that Ansible would warn of is a `_`.

use super::Entry;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What `--list` prints.
pub fn list(entries: &[Entry]) -> Value {
    let mut groups: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    groups.entry("leaseboot".to_owned()).or_default();
    for entry in entries {
        for group in groups_of(entry) {
            groups.entry(group).or_default().insert(entry.hostname.as_str());
        }
    }
    let hosts = |entry: &Entry| (entry.hostname.to_string(), variables(entry));
    let variables: Map<String, Value> = entries.iter().map(hosts).collect();
    let mut list: Map<String, Value> = groups
        .into_iter()
        .map(|(group, hosts)| (group, json!({ "hosts": hosts })))
        .collect();
    list.insert("_meta".to_owned(), json!({ "hostvars": variables }));
    Value::Object(list)
}

/// What `--host NAME` prints: nothing is known of a host that is not ours.
pub fn host(entries: &[Entry], name: &str) -> Value {
    let entry = entries.iter().find(|entry| entry.hostname.as_str() == name);
    entry.map_or_else(|| json!({}), variables)
}

fn variables(entry: &Entry) -> Value {
    json!({
        "ansible_host": entry.address,
        "leaseboot_borrowing": entry.borrowing,
        "leaseboot_lease": entry.lease,
        "leaseboot_server": entry.server,
        "leaseboot_profile": entry.profile,
        "leaseboot_service": entry.service,
        "leaseboot_labels": entry.labels,
    })
}

fn groups_of(entry: &Entry) -> Vec<String> {
    let mut groups = vec![
        "leaseboot".to_owned(),
        plain(&format!("profile_{}", entry.profile)),
    ];
    let service = entry.service.iter();
    groups.extend(service.map(|service| plain(&format!("service_{service}"))));
    let labels = entry.labels.iter();
    groups.extend(labels.map(|(name, value)| plain(&format!("label_{name}_{value}"))));
    groups
}

fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::roster::sample;

    #[test]
    fn a_group_has_a_plain_name_and_a_strange_host_no_variables() {
        let mut entry = sample(1);
        entry.labels.insert("rack".to_owned(), "a-1/\"x".to_owned());
        let list = list(&[entry.clone()]);
        assert_eq!(list["label_rack_a_1__x"]["hosts"][0], "web-1");
        assert_eq!(
            list["_meta"]["hostvars"]["web-1"]["leaseboot_labels"]["rack"],
            "a-1/\"x"
        );
        assert_eq!(host(&[entry], "other"), json!({}));
    }
}
