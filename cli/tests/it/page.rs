//! The page of a report, as a file. What a browser makes of it is checked in `cli/page/check`.

use crate::harness::Folder;
use serde_json::Value;

/// A report of a quickstart run, with few receivers and seconds.
const REPORT: &str = include_str!("report.json");

/// The page of `report`, as `nearbench report` makes it.
fn page_of(report: &str) -> String {
    let folder = Folder::new();
    folder.write("out/report.json", report);
    let ended = folder.nearbench(&["report", "out", "--html", "page.html"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stderr.contains("page.html is written"), "{ended:?}");
    std::fs::read_to_string(folder.path().join("page.html")).unwrap()
}

/// The report that a page holds.
pub(crate) fn held(page: &str) -> Value {
    held_as("report", page)
}

/// What a page of this kind holds.
pub(crate) fn held_as(kind: &str, page: &str) -> Value {
    let (_, data) = page.split_once(&format!("<script type=\"application/json\" id=\"{kind}\">")).unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_page_holds_its_report_and_asks_for_nothing() {
    let page = page_of(REPORT);
    assert_eq!(held(&page), serde_json::from_str::<Value>(REPORT).unwrap());
    for loads in [" src=", "@import", "url(", "import(", "fetch(", "XMLHttpRequest", "<iframe", "<base"] {
        assert!(!page.contains(loads), "{loads}");
    }
    let links: Vec<&str> = page.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.iter().all(|link| link.starts_with("data:") || link.starts_with('#')), "{links:?}");
    assert!(page.contains("content=\"default-src 'none'; script-src 'sha256-"), "and the browser is told so");
}

#[test]
fn a_report_of_an_earlier_version_has_a_page_too() {
    let mut report: Value = serde_json::from_str(REPORT).unwrap();
    for later in ["latencyDistribution", "signals", "endpoints", "restartsByPart", "chunkFill"] {
        report["results"].as_object_mut().unwrap().remove(later).unwrap();
    }
    for point in report["results"]["series"].as_array_mut().unwrap() {
        point.as_object_mut().unwrap().remove("settled").unwrap();
    }
    let results = &held(&page_of(&report.to_string()))["results"];
    assert!(results["signals"].is_null() && results["restartsByPart"].is_null() && results["endpoints"].is_null());
}

#[test]
fn what_a_report_says_ends_nothing_in_its_page() {
    let hostile = "</script><script>alert(1)</script><!-- \u{2028} {{script}}\n";
    let mut report: Value = serde_json::from_str(REPORT).unwrap();
    let places = [
        "/run/name",
        "/plan/name",
        "/plan/load/phases/0/name",
        "/results/phases/0/name",
        "/results/limitedBy/evidence",
        "/environment/chain/software",
        "/environment/machine/cpuModel",
    ];
    for place in places {
        *report.pointer_mut(place).unwrap() = hostile.into();
    }
    report["results"]["errors"] = serde_json::json!({ hostile: 3 });
    report["reasons"] = serde_json::json!([hostile]);
    let page = page_of(&report.to_string());
    assert_eq!(held(&page), report);
    assert_eq!(page.matches("</script>").count(), page_of(REPORT).matches("</script>").count());
    assert!(!page.contains("<script>alert"));
}

#[test]
fn a_page_of_no_report_is_refused_and_not_written() {
    let folder = Folder::new();
    let cut = &REPORT[..REPORT.len() / 2];
    let other = REPORT.replace("nearbench.dev/v1alpha1", "nearbench.dev/v9");
    let damaged = REPORT.replace("\"verdict\":", "\"judgement\":");
    for (text, told) in [
        (cut, "it ends in the middle"),
        (&other, "has apiVersion: \"nearbench.dev/v9\""),
        (&damaged, "it lacks verdict: it is damaged, or of another version"),
    ] {
        folder.write("report.json", text);
        let ended = folder.nearbench(&["report", "report.json", "--html", "page.html"]);
        assert!(ended.code == 2 && ended.stderr.contains(told), "{told}: {ended:?}");
        assert!(!folder.path().join("page.html").exists());
    }
    folder.write("report.json", REPORT);
    folder.write("pages/other.txt", "");
    for (arguments, told) in [
        (&["--html", "pages"][..], "pages is a folder: name a file, such as pages/report.html"),
        (&["--html", "page.html", "--json"], "cannot be used with"),
    ] {
        let ended = folder.nearbench(&[&["report", "report.json"], arguments].concat());
        assert!(ended.code == 2 && ended.stderr.contains(told), "{told}: {ended:?}");
    }
}
