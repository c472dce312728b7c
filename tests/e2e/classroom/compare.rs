//! `hull compare`: the same program as a process, in a container and in microVMs.

use std::process::Command;

use serde_json::Value;

use super::browser::Browser;
use crate::harness::Hull;

fn column<'a>(report: &'a Value, id: &str) -> &'a Value {
    let mut columns = report["columns"].as_array().unwrap().iter();
    let found = columns.find(|column| column["id"] == id);
    found.unwrap_or_else(|| panic!("{id} in {report:#}"))
}

fn figure_ids(column: &Value) -> Vec<&str> {
    let figures = column["figures"].as_array().unwrap().iter();
    figures
        .map(|figure| figure["id"].as_str().unwrap())
        .collect()
}

fn of_host(column: &Value) -> Vec<&str> {
    let sights = column["sights"].as_array().unwrap().iter();
    let own = sights.filter(|sight| sight["of_host"] == true);
    own.map(|sight| sight["name"].as_str().unwrap()).collect()
}

#[test]
fn every_column_is_measured_or_says_why_not() {
    // Nobody else makes images there.
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&["pull", "-q", "--platform", "linux/arm64", "busybox"]);
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
    let parts = |id: &str| column(&report, id)["timeline"].as_array().unwrap().len();
    assert_eq!([parts("process"), parts("container")], [2, 2]);
    assert!(of_host(column(&report, "container")).contains(&"mounts"));
    assert!(report["noise"]["text"].as_str().unwrap().contains("load "));
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
        assert_eq!(figure_ids(column(&report, id)), wanted, "{id}");
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
    let count = |selector: &str| {
        let found = format!("document.querySelectorAll('{selector}').length");
        browser.value(&found).as_u64().unwrap()
    };
    assert_eq!(count("figure.plot"), 10);
    // Each measurement is a dot, each place that runs a tower, a time line and a field of squares.
    let run = 4 + u64::from(why_not.is_none());
    assert_eq!(count("figure.plot .run"), 10 * 2 * run);
    assert_eq!(
        [count(".tower"), count(".stages"), count(".waffle")],
        [run; 3]
    );
    assert_eq!(count(".tower .host.shared"), run - 2);
    assert!(count("td.of-host") > 10);
    browser.assert_readable("compare");
    assert!(browser.print().starts_with(b"%PDF"));
    browser.assert_quiet("file://");
}

fn report(hull: &Hull, arguments: &[&str]) -> Value {
    let arguments = [&["compare", "-q", "--json"], arguments].concat();
    serde_json::from_str(&hull.ok(&arguments)).unwrap()
}

/// Everything but times, which are compared by `benches/run compare`: a machine that is busy with
/// other tests has no times to compare.
#[test]
fn two_comparisons_find_the_same() {
    let hull = Hull::shared();
    let arguments = ["--runs", "2", "--instances", "2", "--only", "process,uml"];
    let arguments = [&arguments[..], &["busybox"]].concat();
    let (first, second) = (report(&hull, &arguments), report(&hull, &arguments));
    for id in ["process", "uml"] {
        let (one, other) = (column(&first, id), column(&second, id));
        for key in ["kernel", "host_calls", "boundary"] {
            assert_eq!(one[key], other[key], "{id} {key}");
        }
        assert_eq!(of_host(one), of_host(other), "{id}");
        assert_eq!(figure_ids(one), figure_ids(other), "{id}");
    }
}

/// A process has at least the memory that is its share; what several share is not counted several
/// times.
#[test]
fn time_finds_no_less_memory() {
    let hull = Hull::shared();
    let arguments = ["--runs", "2", "--instances", "3", "--only", "process"];
    let found = report(&hull, &[&arguments[..], &["busybox"]].concat());
    let probe =
        crate::harness::repository().join(format!("target/guest/probe-{}", std::env::consts::ARCH));
    let line = [probe.to_str().unwrap(), "hello"];
    let kilobytes = time(&mut Command::new("/usr/bin/time"), "%M", &line);
    let mut figures = column(&found, "process")["figures"]
        .as_array()
        .unwrap()
        .iter();
    let memory = figures.find(|figure| figure["id"] == "memory_mib").unwrap();
    let most = memory["high"].as_f64().unwrap();
    assert!(
        most * 1024.0 <= kilobytes,
        "hull {most} MiB, time {kilobytes} kB"
    );
}

/// What `time` says of a command in this format.
fn time(command: &mut Command, format: &str, line: &[&str]) -> f64 {
    let done = command
        .args(["--format", format])
        .args(line)
        .output()
        .expect("time is installed by make test");
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    said.lines().last().unwrap().trim().parse().unwrap()
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
