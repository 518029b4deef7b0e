//! Commands that show the fleet.

use super::find;
use crate::commands::status::hardware;
use crate::commands::table::{Table, ago, say};
use crate::fleet;
use crate::lease::driver::now;
use crate::store::{FleetRow, Store};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::labels::Labels;
use serde_json::json;
use std::fmt::Write as _;

pub(super) async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let (mut servers, _) = store.fleet_changes(0).await?;
    servers.sort_by(|a, b| a.declared.name.cmp(&b.declared.name));
    let strangers = store.strangers().await?;
    if as_json {
        let servers: Vec<_> = servers.iter().map(in_json).collect();
        say(format_args!(
            "{:#}\n",
            json!({ "servers": servers, "strangers": strangers })
        ))?;
        return Ok(());
    }
    let mut table = Table::new(&["SERVER", "CARD", "ADDRESS", "STATE", "LABELS", "DIFFERENT", "WHY"]);
    for server in &servers {
        table.row([
            server.declared.name.to_string(),
            server.declared.place.mac.to_string(),
            server.declared.place.address.addr().to_string(),
            state(server),
            label_words(&fleet::labels(server)),
            match server.differences.len() {
                0 => String::new(),
                differences => differences.to_string(),
            },
            server.maintenance.as_ref().unwrap_or(&server.reason).clone(),
        ]);
    }
    let mut text = table.to_string();
    if !strangers.is_empty() {
        let mut table = Table::new(&["STRANGER", "ADDRESS", "SEEN", "HARDWARE"]);
        for stranger in &strangers {
            table.row([
                stranger.mac.to_string(),
                stranger.address.to_string(),
                ago(now(), stranger.seen),
                hardware(&stranger.hardware),
            ]);
        }
        write!(text, "\n{table}")?;
    }
    say(text)?;
    Ok(())
}

pub(super) async fn one(store: &Store, name: &ServerId, as_json: bool) -> anyhow::Result<()> {
    let server = find(store, name).await?;
    let history = store.history(name).await?;
    if as_json {
        let mut shown = in_json(&server);
        shown["hardware"] = json!(server.hardware);
        let lines = history.iter().map(|(at, what)| json!({ "at": at, "what": what }));
        shown["history"] = lines.collect();
        say(format_args!("{shown:#}\n"))?;
        return Ok(());
    }
    let place = &server.declared.place;
    let mut text = format!(
        "{name} is {}: {}\ncard {}, address {}\nlabels: {}\n",
        state(&server),
        server.maintenance.as_ref().unwrap_or(&server.reason),
        place.mac,
        place.address.addr(),
        label_words(&fleet::labels(&server)),
    );
    match &server.hardware {
        Some(report) => writeln!(text, "hardware: {}", hardware(report))?,
        None => text.push_str("hardware: not reported yet\n"),
    }
    if !server.differences.is_empty() {
        text.push_str("different from what is on record:\n");
        for difference in &server.differences {
            writeln!(text, "  {difference}")?;
        }
        writeln!(
            text,
            "`leaseboot-lm servers accept {name}` puts it on record as it is now"
        )?;
    }
    for (at, what) in &history {
        writeln!(text, "{}: {what}", ago(now(), *at))?;
    }
    say(text)?;
    Ok(())
}

fn state(server: &FleetRow) -> String {
    match (&server.retired, &server.maintenance) {
        (Some(_), _) => "retired".to_owned(),
        (None, Some(_)) => format!("{}, in maintenance", server.custody),
        (None, None) => server.custody.to_string(),
    }
}

fn label_words(labels: &Labels) -> String {
    let words: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.join(" ")
}

fn in_json(server: &FleetRow) -> serde_json::Value {
    json!({
        "name": server.declared.name,
        "mac": server.declared.place.mac,
        "address": server.declared.place.address.addr(),
        "custody": server.custody,
        "reason": server.reason,
        "lease": server.lease,
        "labels": fleet::labels(server),
        "maintenance": server.maintenance,
        "retired": server.retired,
        "differences": server.differences,
    })
}
