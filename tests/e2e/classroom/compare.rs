//! `hull compare`: the same program as a process, in a container and in microVMs.

use serde_json::Value;

use super::browser::Browser;
use crate::harness::Hull;

fn column<'a>(report: &'a Value, id: &str) -> &'a Value {
    let mut columns = report["columns"].as_array().unwrap().iter();
    let found = columns.find(|column| column["id"] == id);
    found.unwrap_or_else(|| panic!("{id} in {report:#}"))
}

fn of_host(column: &Value) -> Vec<&str> {
    let sights = column["sights"].as_array().unwrap().iter();
    let own = sights.filter(|sight| sight["of_host"] == true);
    own.map(|sight| sight["name"].as_str().unwrap()).collect()
}

#[test]
fn every_column_is_measured_or_says_why_not() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("compare.html");
    let columns = "process,container,uml,process-arm64,uml-arm64";
    let images = hull.ok(&["images", "-aq"]);
    let report = hull.ok(&[
        "compare",
        "-q",
        "--json",
        "--runs",
        "2",
        "--instances",
        "2",
        "--only",
        columns,
        "--html",
        file.to_str().unwrap(),
        "busybox",
        "--",
        "ls",
        "/",
    ]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["columns"].as_array().unwrap().len(), 5);
    assert_eq!(hull.ok(&["images", "-aq"]), images, "an image is left");

    // A process and a container have the host's kernel; a machine has its own.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for id in ["process", "container"] {
        let own = column(&report, id);
        assert!(
            own["kernel"].as_str().unwrap().starts_with(kernel.trim()),
            "{own:#}"
        );
        assert!(
            of_host(own).contains(&"started with the host (boot id)"),
            "{own:#}"
        );
    }
    assert!(of_host(column(&report, "process")).contains(&"processes"));
    assert!(!of_host(column(&report, "container")).contains(&"processes"));
    for id in ["uml", "uml-arm64"] {
        let own = column(&report, id);
        assert!(of_host(own).is_empty(), "{own:#}");
        assert!(own["kernel"].as_str().unwrap().contains("hull"), "{own:#}");
        let stages = own["timeline"].as_array().unwrap();
        assert!(
            stages
                .iter()
                .any(|stage| stage["name"] == "the agent is ready"),
            "{own:#}"
        );
    }
    // Each wall leaves less of the host's kernel.
    let calls = |id: &str| column(&report, id)["host_calls"][0].as_u64().unwrap();
    assert_eq!(Some(calls("process")), report["host_calls"].as_u64());
    assert!(calls("process") > calls("container") && calls("container") > calls("uml"));

    let wanted = [
        "first_ms",
        "whole_ms",
        "command_ms",
        "memory_mib",
        "syscall_ns",
        "fork_exec_us",
        "cpu_ns",
        "file_write_mb_s",
        "file_read_mb_s",
        "network_mb_s",
    ];
    for id in ["process", "container", "uml", "uml-arm64"] {
        let figures = column(&report, id)["figures"].as_array().unwrap();
        let ids: Vec<&str> = figures
            .iter()
            .map(|figure| figure["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, wanted, "{id}");
        for figure in figures {
            let number = |key: &str| figure[key].as_f64().unwrap();
            assert_eq!(
                figure["values"].as_array().unwrap().len(),
                2,
                "{id} {figure}"
            );
            assert!(number("low") > 0.0, "{id} {figure}");
            assert!(number("low") <= number("median") && number("median") <= number("high"));
        }
    }
    // Without the host's help it runs nothing of another architecture; where it has that help, it does.
    let foreign = column(&report, "process-arm64");
    let why_not = foreign["why_not"].as_str();
    assert!(
        why_not.is_none_or(|why| why.contains("Exec format error")),
        "{foreign:#}"
    );

    let browser = Browser::start();
    browser.open_file(&file);
    let text = browser.text("document.body.innerText");
    for wanted in [
        "busybox: process, container, microVM",
        "Does not run here",
        "fork and exec",
        "the agent is ready",
    ] {
        assert!(
            text.contains(wanted) || (wanted == "Does not run here" && why_not.is_none()),
            "{wanted} in {text}"
        );
    }
    assert_eq!(
        browser.value("document.querySelectorAll('svg.plot').length"),
        10
    );
    assert!(
        browser
            .value("document.querySelectorAll('td.bad').length")
            .as_u64()
            > Some(2)
    );
    browser.assert_readable("compare");
    assert!(browser.print().starts_with(b"%PDF"));
    browser.assert_quiet("file://");
}

#[test]
fn what_cannot_be_compared_is_refused_in_a_line() {
    let hull = Hull::shared();
    let error = hull.fails(&["compare", "-q", "--only", "cloud", "busybox"], 1);
    assert!(
        error.starts_with("hull: there is no column \"cloud\"; there are process, container, uml"),
        "{error}"
    );
}
