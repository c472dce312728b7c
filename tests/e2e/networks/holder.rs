//! The process that holds the networks comes and goes.

use std::io::Read;
use std::net::TcpStream;

use crate::harness::alive;
use crate::leftovers::holders;

use super::*;

#[test]
fn nothing_is_left_after_the_last_container() {
    let hull = Hull::fresh();
    hull.ok(&["run", "--rm", "-q", "busybox", "true"]);
    eventually("the holder and pasta are gone", || {
        holders(&hull).is_empty()
    });
    assert!(!hull.root().join("run/network/holder").exists());
    // And the next one finds everything again.
    assert_eq!(
        hull.ok(&["run", "--rm", "busybox", "echo", "again"]),
        "again"
    );
}

#[test]
fn a_killed_holder_is_replaced() {
    let hull = Hull::fresh();
    let server = greeter(
        &hull,
        &["-q", "--name", "survivor", "-p", "127.0.0.1::7000"],
        "still here",
    );
    let port = hull.ok(&["port", "survivor", "7000"]);
    let greeting = || {
        let mut text = String::new();
        let read = TcpStream::connect(&port).and_then(|mut s| s.read_to_string(&mut text));
        read.is_ok().then_some(text)
    };
    assert_eq!(greeting().as_deref(), Some("still here"));
    let before = holders(&hull);
    assert_eq!(before.len(), 2, "a holder and its pasta");
    for pid in &before {
        // Both at once: who of them died first is not to matter.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::SIGKILL);
    }
    eventually("they are gone", || !before.iter().any(|pid| alive(*pid)));
    eventually("the published port answers again", || {
        greeting().as_deref() == Some("still here")
    });
    assert_eq!(hull.field("survivor", "{{.State.Status}}"), "running");
    // Others start beside it and reach it.
    let address = hull.field(&server.id, "{{.NetworkSettings.IPAddress}}");
    assert_eq!(ask(&hull, &[], &address, "7000"), "still here");
}
