//! A report as a page: one HTML file that holds all it needs, loads nothing, and says so to the browser.
//!
//! What it looks like and draws is in `cli/page`. Here the pieces are put together; what a report means is not known here.

use crate::{exit::Failure, output};
use anyhow::anyhow;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nearbench_core::report::BenchmarkReport;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The page's file in a run's folder.
pub(crate) const FILE: &str = "report.html";

const FRAME: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");
const CHARTS_STYLE: &str = include_str!("../page/vendor/uPlot.min.css");
const CHARTS_SCRIPT: &str = include_str!("../page/vendor/uPlot.iife.min.js");

/// Writes the page of `report` into `file`.
pub(crate) fn write(file: &Path, report: &BenchmarkReport) -> Result<(), Failure> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Err(Failure::input(anyhow!("{} is no name of a file: name one, such as {FILE}", file.display())));
    };
    if file.is_dir() {
        let inside = file.join(FILE);
        return Err(Failure::input(anyhow!(
            "{} is a folder: name a file, such as {}",
            file.display(),
            inside.display()
        )));
    }
    let text = html(&serde_json::to_string(report).map_err(Failure::run)?);
    output::write_whole(folder, name, &text).map(drop)
}

/// The page of a run under way: what it shows, it asks whoever serves it for.
pub(crate) fn live() -> String {
    // Nothing but the events of the place that it comes from.
    html("null").replacen("default-src 'none'", "default-src 'none'; connect-src 'self'", 1)
}

/// The page of a report, which is JSON.
fn html(report: &str) -> String {
    let mut page = String::with_capacity(FRAME.len() + SCRIPT.len() + CHARTS_SCRIPT.len() + STYLE.len() + report.len());
    let mut pieces = FRAME.split("{{");
    page.extend(pieces.next());
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        match name {
            "script-hashes" => page.push_str(&hashes(&[CHARTS_SCRIPT, SCRIPT])),
            "style-hashes" => page.push_str(&hashes(&[CHARTS_STYLE, STYLE])),
            "uplot-style" => page.push_str(CHARTS_STYLE),
            "style" => page.push_str(STYLE),
            "uplot" => page.push_str(CHARTS_SCRIPT),
            "script" => page.push_str(SCRIPT),
            _ => page.push_str(&as_data(report)),
        }
        page.push_str(rest);
    }
    page
}

/// What a Content-Security-Policy knows these texts by: nothing else runs or styles, whatever a report holds.
fn hashes(texts: &[&str]) -> String {
    let hash = |text: &&str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    texts.iter().map(hash).collect::<Vec<_>>().join(" ")
}

/// JSON that no parser of HTML or JavaScript ends early. These characters are in its texts alone, where they may be written
/// so.
fn as_data(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_frame_is_filled_with_its_own() {
        let page = html(r#"{"name":"{{script}}"}"#);
        assert_eq!(page.matches(SCRIPT).count(), 1, "what a report says is not filled in");
        for piece in [STYLE, CHARTS_STYLE, CHARTS_SCRIPT, r#"<script type="application/json" id="report">{"name":"#] {
            assert_eq!(page.matches(piece).count(), 1);
        }
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    }

    #[test]
    fn no_piece_ends_its_element() {
        for piece in [SCRIPT, CHARTS_SCRIPT, STYLE, CHARTS_STYLE] {
            assert!(!["</script", "<script", "</style", "<!--"].iter().any(|end| piece.to_lowercase().contains(end)));
        }
    }

    #[test]
    fn data_ends_neither_its_element_nor_a_line() {
        let hostile = serde_json::json!({"a": "</script><script>alert(1)</script><!--", "b": "\u{2028}\u{2029}\n"});
        let data = as_data(&hostile.to_string());
        assert!(!data.contains(['<', '\u{2028}', '\u{2029}', '\n']), "{data}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&data).ok(), Some(hostile));
    }
}
