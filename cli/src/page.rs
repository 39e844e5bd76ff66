//! A report, or runs beside each other, as a page: one HTML file that holds all it needs, loads nothing, and says so to the
//! browser. A run under way as the same page, which asks for its numbers whoever served it, and nobody else.
//!
//! What it looks like and draws is in `cli/page`. Here the pieces are put together; what a report means is not known here.

use crate::{exit::Failure, output};
use anyhow::anyhow;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nearbench_core::report::BenchmarkReport;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The page's file in a run's folder.
pub(crate) const FILE: &str = "report.html";

const FRAME: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");
const CHARTS_STYLE: &str = include_str!("../page/vendor/uPlot.min.css");
const CHARTS_SCRIPT: &str = include_str!("../page/vendor/uPlot.iife.min.js");

/// What a page shows: the same frame, style and script, and sections of its own.
struct Kind {
    /// What the page calls it, and the script knows it by.
    name: &'static str,
    sections: &'static str,
    /// Whom it may ask for more, as a Content-Security-Policy says it.
    asks: &'static str,
}

const REPORT: Kind = Kind { name: "report", sections: include_str!("../page/report.html"), asks: "'none'" };
const LIVE: Kind = Kind { name: "live", asks: "'self'", ..REPORT };
const COMPARISON: Kind = Kind { name: "comparison", sections: include_str!("../page/comparison.html"), asks: "'none'" };

/// Writes the page of `report` into `file`.
pub(crate) fn write(file: &Path, report: &BenchmarkReport) -> Result<(), Failure> {
    put(file, FILE, &REPORT, report)
}

/// Writes the page of a comparison, as `comparison::page` has it, into `file`.
pub(crate) fn write_comparison(file: &Path, comparison: &impl Serialize) -> Result<(), Failure> {
    put(file, "comparison.html", &COMPARISON, comparison)
}

fn put(file: &Path, such_as: &str, kind: &Kind, shown: &impl Serialize) -> Result<(), Failure> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Err(Failure::input(anyhow!("{} is no name of a file: name one, such as {}", file.display(), such_as)));
    };
    if file.is_dir() {
        let inside = file.join(such_as);
        return Err(Failure::input(anyhow!(
            "{} is a folder: name a file, such as {}",
            file.display(),
            inside.display()
        )));
    }
    let text = html(kind, &serde_json::to_string(shown).map_err(Failure::run)?);
    output::write_whole(folder, name, &text).map(drop)
}

/// The page of a run under way, to be served: what it shows, it asks whoever serves it for.
pub(crate) fn live() -> String {
    html(&LIVE, "null")
}

/// The page of what it shows, which is JSON.
fn html(kind: &Kind, shown: &str) -> String {
    let pieces = [FRAME, kind.sections, STYLE, CHARTS_STYLE, SCRIPT, CHARTS_SCRIPT, shown];
    let mut page = String::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    let mut pieces = FRAME.split("{{");
    page.extend(pieces.next());
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        match name {
            "asks" => page.push_str(kind.asks),
            "script-hashes" => page.push_str(&hashes(&[CHARTS_SCRIPT, SCRIPT])),
            "style-hashes" => page.push_str(&hashes(&[CHARTS_STYLE, STYLE])),
            "uplot-style" => page.push_str(CHARTS_STYLE),
            "style" => page.push_str(STYLE),
            "uplot" => page.push_str(CHARTS_SCRIPT),
            "script" => page.push_str(SCRIPT),
            "kind" => page.push_str(kind.name),
            "sections" => page.push_str(kind.sections),
            _ => page.push_str(&as_data(shown)),
        }
        page.push_str(rest);
    }
    page
}

/// What a Content-Security-Policy knows these texts by: nothing else runs or styles, whatever a page holds.
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
        for kind in [&REPORT, &COMPARISON, &LIVE] {
            let page = html(kind, r#"{"name":"{{script}}"}"#);
            assert_eq!(page.matches(SCRIPT).count(), 1, "what is shown is not filled in");
            let data =
                format!(r#"<script type="application/json" id="{}">{{"name":"{{{{script}}}}"}}</script>"#, kind.name);
            let title = format!("<title>nearbench {}</title>", kind.name);
            for piece in [STYLE, CHARTS_STYLE, CHARTS_SCRIPT, kind.sections, &data, &title] {
                assert_eq!(page.matches(piece).count(), 1, "{piece:.80}");
            }
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
            assert_eq!(
                page.matches("{{").count(),
                SCRIPT.matches("{{").count() + CHARTS_SCRIPT.matches("{{").count() + 1
            );
        }
    }

    #[test]
    fn the_script_finds_a_place_for_what_it_draws_of_either_kind() {
        for kind in [&REPORT, &COMPARISON, &LIVE] {
            let page = html(kind, "{}");
            for id in ["name", "meta", "verdict", "charts", "charts-title", "zoom-hint", "zoom-out", "footer"] {
                assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id} in a {}", kind.name);
            }
        }
    }

    #[test]
    fn a_page_asks_nobody_but_that_of_a_run_under_way_whoever_served_it() {
        for (page, asks) in [(html(&REPORT, "{}"), "'none'"), (html(&COMPARISON, "{}"), "'none'"), (live(), "'self'")] {
            assert!(page.contains(&format!("; connect-src {asks}; ")), "{asks}");
        }
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
