//! A bar chart as SVG: two bars a row, the longer one as wide as the chart, since rows have different units.

use super::report::{Report, Row, number};
use std::fmt::Write as _;

const LABELS: f64 = 330.0;
const BARS: f64 = 420.0;
const VALUES: f64 = 190.0;
const ROW: f64 = 44.0;
const TOP: f64 = 48.0;

/// Draws the report.
pub(super) fn draw(report: &Report) -> String {
    let rows = u32::try_from(report.rows.len()).unwrap_or(u32::MAX);
    let (width, height) = (LABELS + BARS + VALUES, TOP + ROW * f64::from(rows) + 16.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"16\">bench {}: ours (dark) and the peer (light); green = goal met, red = missed</text>\n",
        escaped(&report.bench)
    );
    let mut top = TOP;
    for row in &report.rows {
        draw_row(&mut svg, row, top);
        top += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_row(svg: &mut String, row: &Row, top: f64) {
    let longest = row.ours.max(row.peer.unwrap_or(0.0));
    let length = |value: f64| {
        if longest > 0.0 {
            BARS * value / longest
        } else {
            0.0
        }
    };
    let colour = match row.met {
        Some(true) => "#2e7d32",
        Some(false) => "#c62828",
        None => "#455a64",
    };
    let goal = row
        .goal
        .as_deref()
        .map(|goal| format!(" · {goal}"))
        .unwrap_or_default();
    let _ = writeln!(
        svg,
        "<text x=\"12\" y=\"{:.1}\">{}</text>\n<text x=\"12\" y=\"{:.1}\" fill=\"#777\">{}{}</text>",
        top + 13.0,
        escaped(&row.name),
        top + 29.0,
        escaped(&row.unit),
        escaped(&goal)
    );
    bar(svg, top + 2.0, length(row.ours), colour, &number(row.ours));
    if let Some(peer) = row.peer {
        let name = row.peer_name.as_deref().unwrap_or("peer");
        bar(
            svg,
            top + 18.0,
            length(peer),
            "#b0bec5",
            &format!("{} {name}", number(peer)),
        );
    }
}

fn bar(svg: &mut String, top: f64, length: f64, colour: &str, label: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"14\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LABELS + length + 6.0,
        top + 11.5,
        escaped(label)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
