//! `leaseboot-po list`: all borrowings as a table, or as JSON.

use super::{ConfigArg, block_on};
use clap::Args;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_protocol::timestamp::Timestamp;
use std::process::ExitCode;
use std::time::SystemTime;

/// Show the borrowings
#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Also those that are over.
    #[arg(long)]
    all: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.config.client()?;
        let mut views = block_on(async { Ok(client.list().await?) })?;
        views.retain(|view| self.all || !view.over);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&views)?);
        } else {
            print!("{}", table(&views, Timestamp::from(SystemTime::now())));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(views: &[BorrowingView], now: Timestamp) -> String {
    let header = [
        "BORROWING",
        "LEASE",
        "SERVER",
        "PROFILE",
        "NAME",
        "ADDRESS",
        "STATE",
        "SINCE",
        "LEFT",
    ];
    let dash = || "-".to_owned();
    let rows = views.iter().map(|view| {
        [
            view.id.to_string(),
            view.lease.as_ref().map_or_else(dash, ToString::to_string),
            server(view),
            view.profile.clone(),
            view.hostname.to_string(),
            view.address.to_string(),
            view.state.clone(),
            ago(now.since(view.since).as_secs()),
            view.expires.map_or_else(dash, |expires| left(expires, now)),
        ]
    });
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for view in views {
        if let Some(reason) = &view.reason {
            text.push_str(&format!("{}: {reason}\n", view.id));
        }
        if let Some(erasure) = &view.erasure {
            text.push_str(&format!("{}: {erasure}\n", view.id));
        }
    }
    text
}

/// The server, with its lender where there are several.
fn server(view: &BorrowingView) -> String {
    let server = view
        .server
        .as_ref()
        .map_or_else(|| "-".to_owned(), ToString::to_string);
    match &view.lender {
        Some(lender) => format!("{server} at {lender}"),
        None => server,
    }
}

/// How long a term still lasts.
pub(super) fn left(expires: Timestamp, now: Timestamp) -> String {
    match expires.since(now).as_secs() {
        0 => "over".to_owned(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let view: BorrowingView = serde_json::from_str(
            r#"{"id":"b-1","lease":"l-1","server":null,"profile":"web","hostname":"web-1","address":"10.99.0.10",
                "state":"failed","since":0,"reason":"no","expires":7380000,"over":true}"#,
        )
        .unwrap();
        let text = table(&[view], Timestamp(180_000));
        let mut lines = text.lines();
        let header = lines.next().unwrap();
        let row = lines.next().unwrap();
        assert_eq!(header.find("STATE"), row.find("failed"), "{text}");
        assert!(row.ends_with("3 min ago  2 h"), "{text}");
        assert_eq!(lines.next(), Some("b-1: no"));
    }
}
