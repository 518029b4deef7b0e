//! Commands that change the fleet. Each says what it did, and writes it into the server's history.

use super::{Approve, Switch, find};
use crate::commands::console;
use crate::config::{Config, Server};
use crate::fleet::{self, Approval};
use crate::lease::driver::now;
use crate::store::{Custody, FleetRow, Store};
use anyhow::{Context as _, bail};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::labels;
use std::path::Path;
use std::time::Duration;

pub(super) async fn import(config: &Config, store: &Store, file: &Path) -> anyhow::Result<()> {
    let servers = config.read_servers(file)?;
    let new = store.declare_servers(servers.values(), true, now()).await?;
    for name in &new {
        let what = format!("declared by {}", file.display());
        store.add_history(name, &what, now()).await?;
    }
    println!(
        "{} servers are declared, {} of them new",
        servers.len(),
        new.len()
    );
    Ok(())
}

pub(super) async fn approve(config: &Config, store: &Store, approve: &Approve) -> anyhow::Result<()> {
    let strangers = store.strangers().await?;
    let stranger = strangers.into_iter().find(|stranger| stranger.mac == approve.mac);
    let stranger = stranger.with_context(|| {
        format!(
            "no stranger with the card {} has reported itself: `leaseboot-lm servers list` names those that have",
            approve.mac
        )
    })?;
    if store.fleet_server(&approve.name).await?.is_some() {
        bail!("there is a server {} already: choose another name", approve.name);
    }
    let (others, _) = store.fleet_changes(0).await?;
    let taken = others.iter().filter(|other| other.retired.is_none());
    let taken = taken.map(|other| other.declared.place.address.addr()).collect();
    let approval = Approval {
        mac: approve.mac,
        name: approve.name.clone(),
        seen: stranger.address,
        address: approve.address,
        power: approve.power.clone(),
        console: approve.console.clone(),
        labels: approve
            .labels
            .iter()
            .map(|text| pair(text))
            .collect::<Result<_, _>>()?,
        wiped: approve.wiped,
    };
    let server = Server {
        hardware: Some(stranger.hardware),
        ..fleet::approve(config, &approval, &taken)?
    };
    store.declare_servers([&server], true, now()).await?;
    store.forget_stranger(approve.mac).await?;
    let what = format!("approved, with the card {}", approve.mac);
    store.add_history(&server.name, &what, now()).await?;
    println!("{} has the address {}", server.name, server.place.address.addr());
    Ok(())
}

pub(super) async fn accept(store: &Store, name: &ServerId) -> anyhow::Result<()> {
    find(store, name).await?;
    if !store.accept_differences(name, now()).await? {
        bail!("the server {name} is what it was: there is nothing to accept");
    }
    let server = find(store, name).await?;
    println!("what {name} reported last is on record; it is {}", server.custody);
    if server.custody == Custody::Quarantined {
        println!(
            "it was quarantined under a lease: look at it, erase it, and say `leaseboot-lm servers erased {name}`"
        );
    }
    Ok(())
}

fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let pair = text
        .split_once('=')
        .filter(|(name, value)| labels::is_name(name) && labels::is_value(value));
    let (name, value) = pair.with_context(|| {
        format!(
            "{text:?} is not a label: write NAME=VALUE, the name of letters, digits and . _ / - , both at most {} bytes",
            labels::LONGEST_WORD
        )
    })?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn label(store: &Store, name: &ServerId, changes: &[String]) -> anyhow::Result<()> {
    let server = find(store, name).await?;
    let mut labels = server.labels.clone();
    for change in changes {
        match change.strip_prefix('-') {
            // What was not declared needs no mark that it is gone.
            Some(gone) if server.declared.labels.contains_key(gone) => {
                labels.insert(gone.to_owned(), None);
            }
            Some(gone) => {
                labels.remove(gone);
            }
            None => {
                let (name, value) = pair(change)?;
                labels.insert(name, Some(value));
            }
        }
    }
    store.set_labels(name, &labels).await?;
    store
        .add_history(name, &format!("labels: {}", changes.join(" ")), now())
        .await?;
    let now_has = fleet::labels(&FleetRow { labels, ..server });
    let words: Vec<_> = now_has
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    println!("{name}: {}", words.join(" "));
    Ok(())
}

pub(super) async fn maintenance(
    store: &Store,
    name: &ServerId,
    switch: Switch,
    reason: &str,
) -> anyhow::Result<()> {
    let server = find(store, name).await?;
    let (maintenance, what) = match switch {
        Switch::On => (Some(reason), format!("in maintenance: {reason}")),
        Switch::Off => (None, "out of maintenance".to_owned()),
    };
    store.set_maintenance(name, maintenance).await?;
    store.add_history(name, &what, now()).await?;
    println!("{name} is {what}");
    if switch == Switch::On && server.custody == Custody::Lent {
        println!("its lease goes on; it will not be lent again");
    }
    Ok(())
}

pub(super) async fn retire(store: &Store, name: &ServerId, undo: bool) -> anyhow::Result<()> {
    let server = find(store, name).await?;
    match (undo, server.retired) {
        (false, Some(_)) => bail!("the server {name} is retired already"),
        (true, None) => bail!("the server {name} is not retired"),
        (true, Some(_)) => {
            store.unretire(&server.declared).await?;
            store.add_history(name, "back in the fleet", now()).await?;
            println!("{name} is back in the fleet; it is {}", server.custody);
        }
        (false, None) => {
            if !store.retire(name, now()).await? {
                bail!("the server {name} is lent: its lease must end first");
            }
            store.add_history(name, "retired", now()).await?;
            println!("{name} is retired");
        }
    }
    Ok(())
}

pub(super) async fn rescue(config: &Config, store: &Store, name: &ServerId, off: bool) -> anyhow::Result<()> {
    let server = find(store, name).await?;
    if off {
        let there_was = store.withdraw_rescue(name).await?;
        if there_was {
            store.add_history(name, "out of rescue mode", now()).await?;
        }
        println!(
            "{name}: its agent is not to stay{}",
            if there_was { " any more" } else { "" }
        );
        return Ok(());
    }
    if server.retired.is_some() {
        bail!("the server {name} is retired: `leaseboot-lm servers retire {name} --undo` first");
    }
    let at = now();
    let until = at + Duration::from_secs(config.rules.deadlines.rescue.get().into());
    let lent = server.custody == Custody::Lent;
    store.order_rescue(name, lent, at, until).await?;
    store
        .add_history(name, "its agent is to stay in rescue mode", at)
        .await?;
    // A Lease Manager that does not hear it looks by itself in half a minute.
    if let Ok(client) = console::client(&console::socket(config)) {
        let _ = client.get("http://lm/v1/look").send().await;
    }
    match lent {
        true => println!(
            "{name}: its agent stays before it hands over; its lease goes on, and its tenant is told"
        ),
        false => println!("{name} is booted, and its agent stays: `leaseboot-lm console {name}`"),
    }
    Ok(())
}

pub(super) async fn erased(store: &Store, name: &ServerId) -> anyhow::Result<()> {
    if !store
        .set_free(name, "erased, as its operator said", now())
        .await?
    {
        match store.server(name).await? {
            Some(server) => bail!(
                "the server {name} is {}, so there is nothing to set free",
                server.custody
            ),
            None => bail!("there is no server {name}: `leaseboot-lm servers list` names them"),
        }
    }
    store
        .add_history(name, "erased, as its operator said", now())
        .await?;
    println!("{name} is free");
    Ok(())
}
