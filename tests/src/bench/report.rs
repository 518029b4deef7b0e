//! What is left of a bench: a table, a JSON file and a plot.

use super::measurement::{Goal, Measurement};
use super::plot;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// All rows of one bench.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The bench's name.
    pub bench: String,
    /// What was measured, in the order in which it was.
    pub rows: Vec<Row>,
}

/// One row of the JSON file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Our value.
    pub ours: f64,
    /// The peer's value.
    pub peer: Option<f64>,
    /// Ours divided by the peer's.
    pub ratio: Option<f64>,
    /// The goal in words, such as `ratio ≥ 3`.
    pub goal: Option<String>,
    /// Whether it was reached.
    pub met: Option<bool>,
    /// The unit of both values.
    pub unit: String,
    /// Who the peer is.
    pub peer_name: Option<String>,
}

impl From<&Measurement> for Row {
    fn from(measurement: &Measurement) -> Self {
        Self {
            name: measurement.name.clone(),
            ours: measurement.ours,
            peer: measurement.peer.as_ref().map(|peer| peer.value),
            ratio: measurement.ratio(),
            goal: measurement.goal.map(in_words),
            met: measurement.met(),
            unit: measurement.unit.clone(),
            peer_name: measurement.peer.as_ref().map(|peer| peer.name.clone()),
        }
    }
}

fn in_words(goal: Goal) -> String {
    match goal {
        Goal::RatioAtLeast(least) => format!("ratio ≥ {least}"),
        Goal::RatioAtMost(most) => format!("ratio ≤ {most}"),
        Goal::AtLeast(least) => format!("ours ≥ {least}"),
        Goal::AtMost(most) => format!("ours ≤ {most}"),
    }
}

impl Report {
    /// A report of these measurements.
    pub fn new(bench: &str, measurements: &[Measurement]) -> Self {
        Self {
            bench: bench.to_owned(),
            rows: measurements.iter().map(Row::from).collect(),
        }
    }

    /// Writes `<bench>.json` and `<bench>.svg` into the folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self).context("cannot write the rows as JSON")?;
        for (ending, text) in [("json", json + "\n"), ("svg", plot::draw(self))] {
            let path = folder.join(format!("{}.{ending}", self.bench));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The table for people, with a last line that counts the goals.
    pub fn table(&self) -> String {
        let heads = ["what", "unit", "ours", "peer", "", "ratio", "goal", ""].map(str::to_owned);
        let mut lines = vec![heads];
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| {
            lines
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..8).map(width).collect();
        let mut text = String::new();
        for cells in &lines {
            let padded = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    // Numbers stand to the right.
                    match column {
                        2 | 3 | 5 => format!("{cell:>width$}"),
                        _ => format!("{cell:<width$}"),
                    }
                });
            let line = padded.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let goals = self.rows.iter().filter_map(|row| row.met);
        let met = goals.clone().filter(|met| *met).count();
        let _ = writeln!(text, "\n{met} of {} goals met", goals.count());
        text
    }
}

impl Row {
    fn cells(&self) -> [String; 8] {
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.name.clone(),
            self.unit.clone(),
            number(self.ours),
            self.peer.map(number).unwrap_or_default(),
            self.peer_name.clone().unwrap_or_default(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.goal.clone().unwrap_or_default(),
            met.to_owned(),
        ]
    }
}

/// Three or four digits that count.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_in_three_forms() {
        let folder = tempfile::tempdir().unwrap();
        let measurements = [
            Measurement::new("lockstep <64>", "MiB/CPU-s", 600.0)
                .against("dnsmasq", 200.0)
                .goal(Goal::RatioAtLeast(3.0)),
            Measurement::new("memory", "MB", 40.0).goal(Goal::AtMost(32.0)),
            Measurement::new("aside", "s", 0.5),
        ];
        let report = Report::new("boot", &measurements);
        report.write(folder.path()).unwrap();
        let json = std::fs::read_to_string(folder.path().join("boot.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let row = &json["rows"][0];
        assert_eq!(
            (row["ratio"].as_f64(), row["met"].as_bool()),
            (Some(3.0), Some(true))
        );
        assert_eq!(row["goal"], "ratio ≥ 3");
        assert!(json["rows"][2]["met"].is_null());
        let svg = std::fs::read_to_string(folder.path().join("boot.svg")).unwrap();
        assert!(svg.contains("lockstep &lt;64&gt;") && svg.ends_with("</svg>\n"));
        let table = report.table();
        assert!(
            table.contains("MISSED") && table.ends_with("1 of 2 goals met\n"),
            "{table}"
        );
    }
}
