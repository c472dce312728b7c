//! Health checks, among them the three that the workshop has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{Hull, eventually};

const NOW: [&str; 4] = ["--health-interval", "200ms", "--health-retries", "2"];

#[track_caller]
fn becomes(hull: &Hull, id: &str, status: &str) {
    eventually(&format!("the container is {status}"), || {
        hull.field(id, "{{.State.Health.Status}}") == status
    });
}

/// A checked container that is ill without `cure` and well with it.
#[track_caller]
fn turns(hull: &Hull, arguments: &[&str], cure: &[&str], poison: &[&str]) {
    let running = hull.background(&[&NOW[..], arguments].concat());
    let id = running.id.as_str();
    becomes(hull, id, "unhealthy");
    hull.ok(&[&["exec", "-d", id], cure].concat());
    becomes(hull, id, "healthy");
    let shown = hull.ok(&["ps", "--filter", "health=healthy", "--no-trunc"]);
    assert!(shown.contains(id) && shown.contains("(healthy)"), "{shown}");
    hull.ok(&[&["exec", id], poison].concat());
    becomes(hull, id, "unhealthy");
    let shown = hull.ok(&["ps", "--filter", "health=unhealthy"]);
    assert!(shown.contains("(unhealthy)"), "{shown}");
}

/// A program of the host with everything that it is linked to, in `/opt/tools` of an image
/// without it.
fn bring(program: &str, directory: &Path) -> String {
    let program = fs::canonicalize(program).unwrap();
    let linked = Command::new("ldd").arg(&program).output().unwrap();
    let text = String::from_utf8(linked.stdout).unwrap();
    let mut loader = String::new();
    for word in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let name = Path::new(word).file_name().unwrap();
        fs::copy(word, directory.join(name)).unwrap();
        if word.contains("/ld-") {
            loader = name.to_string_lossy().into_owned();
        }
    }
    let name = program.file_name().unwrap().to_string_lossy();
    let name = name.split('.').next().unwrap();
    fs::copy(&program, directory.join(format!("{name}.bin"))).unwrap();
    let script = format!(
        "#!/bin/sh\nexec /opt/tools/{loader} --library-path /opt/tools /opt/tools/{name}.bin \"$@\"\n"
    );
    let script_file = directory.join(name);
    fs::write(&script_file, script).unwrap();
    fs::set_permissions(script_file, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/opt/tools:ro", directory.display())
}

/// Where the programs that were brought are looked for first.
const TOOLS: &str = "PATH=/opt/tools:/usr/local/bin:/usr/bin:/bin";

#[test]
fn a_web_server_is_checked_with_curl() {
    let hull = Hull::shared();
    hull.ok(&["pull", "-q", "python"]);
    let directory = tempfile::tempdir().unwrap();
    let volume = bring("/usr/bin/curl", directory.path());
    // As in the workshop: an image with the check, a shell in place of its server, and the
    // server started by hand.
    let made = hull.ok(&["create", "python"]);
    let check = "HEALTHCHECK --interval=200ms --timeout=3s --retries=2 \
                 CMD curl --fail http://localhost:8000/ || exit 1";
    let path = format!("ENV {TOOLS}");
    hull.ok(&["commit", "-c", check, "-c", &path, &made, "health-curl"]);
    hull.ok(&["rm", &made]);
    let running = hull.background(&["-v", &volume, "health-curl", "sleep", "1000"]);
    let id = running.id.as_str();
    becomes(&hull, id, "unhealthy");
    let server = "exec python3 -m http.server & echo $! > /tmp/server; wait";
    hull.ok(&["exec", "-d", id, "sh", "-c", server]);
    becomes(&hull, id, "healthy");
    let log = hull.field(id, "{{(index .State.Health.Log 0).Output}}");
    assert!(!log.is_empty(), "curl writes what it fetched");
    hull.ok(&["exec", id, "sh", "-c", "kill $(cat /tmp/server)"]);
    becomes(&hull, id, "unhealthy");
    assert_eq!(hull.field(id, "{{len .State.Health.Log}}"), "5");
    let test = hull.field("health-curl", "{{index .Config.Healthcheck.Test 0}}");
    assert_eq!(test, "CMD-SHELL");

    let without = hull.background(&["--no-healthcheck", "health-curl", "sleep", "1000"]);
    let error = hull.fails(&["inspect", "-f", "{{.State.Health}}", &without.id], 1);
    assert!(error.contains("no entry for key \"Health\""), "{error}");
    let shown = hull.ok(&["ps", "--filter", "health=none", "--no-trunc", "-q"]);
    assert!(shown.contains(&without.id));
    drop((running, without));
    hull.ok(&["rmi", "-f", "health-curl"]);
}

#[test]
fn an_open_port_is_checked_with_nc() {
    let hull = Hull::shared();
    let directory = tempfile::tempdir().unwrap();
    let volume = bring("/usr/bin/nc", directory.path());
    let check = "nc -z localhost 8000";
    turns(
        &hull,
        &[
            "-v",
            &volume,
            "-e",
            TOOLS,
            "--health-cmd",
            check,
            "debian",
            "sleep",
            "1000",
        ],
        &["sh", "-c", "echo $$ > /tmp/server; exec nc -lk 8000"],
        &["sh", "-c", "kill $(cat /tmp/server)"],
    );
}

#[test]
fn a_heartbeat_is_checked_with_touch() {
    let hull = Hull::shared();
    let check = "touch -d\"-10min\" /tmp/marker && \
                 [ /processmedia2/data/.heartbeat -nt /tmp/marker ]";
    let beat = "mkdir -p /processmedia2/data && touch /processmedia2/data/.heartbeat";
    turns(
        &hull,
        &["--health-cmd", check, "debian", "sleep", "1000"],
        &["sh", "-c", beat],
        &["touch", "-d", "-1hour", "/processmedia2/data/.heartbeat"],
    );
}

#[test]
fn a_check_that_takes_too_long_is_killed() {
    let hull = Hull::shared();
    let running = hull.background(&[
        "--health-cmd",
        "exec sleep 555",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ]);
    becomes(&hull, &running.id, "unhealthy");
    let last = hull.field(
        &running.id,
        "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}",
    );
    assert!(
        last.starts_with("-1 Health check exceeded timeout"),
        "{last}"
    );
    // At most the one that runs just now is there.
    let processes = hull.ok(&["top", &running.id]);
    let checks = processes.lines().filter(|line| line.contains("sleep 555"));
    assert!(checks.count() <= 1, "{processes}");
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    let hull = Hull::shared();
    let running = hull.background(&[
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "50ms",
        "busybox",
        "sleep",
        "1000",
    ]);
    let id = running.id.as_str();
    eventually("several checks fail", || {
        hull.field(id, "{{len .State.Health.Log}}") == "5"
    });
    let state = "{{.State.Health.Status}} {{.State.Health.FailingStreak}}";
    assert_eq!(hull.field(id, state), "starting 0");
    hull.ok(&["exec", id, "touch", "/well"]);
    becomes(&hull, id, "healthy");
    hull.ok(&["exec", id, "rm", "/well"]);
    becomes(&hull, id, "unhealthy");
    let said = hull.ok(&[
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        &format!("container={id}"),
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(said, "health_status: healthy\nhealth_status: unhealthy");
}

#[test]
fn wrong_checks_are_refused() {
    let hull = Hull::shared();
    for (options, word) in [
        (&["--health-interval", "soon"][..], "length of time"),
        (&["--health-timeout", "10us"], "1ms"),
        (&["--health-retries", "-1"], "negative"),
        (&["--no-healthcheck", "--health-cmd", "true"], "conflicts"),
    ] {
        let arguments = [&["create"], options, &["busybox"]].concat();
        let error = hull.fails(&arguments, 125);
        assert!(error.contains(word), "{error}");
    }
}
