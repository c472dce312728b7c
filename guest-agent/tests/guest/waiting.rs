//! A guest that waits for its container.

use guest_agent::protocol::{BlockDevice, ErrorKind, Prepare, Request, Response, Start, Storage};

use crate::harness::{Guest, possible};
use crate::talk::{start, writable};

fn prepare() -> Request {
    Request::Prepare(Prepare {
        emulators: None,
        binfmt: Vec::new(),
        interfaces: Vec::new(),
    })
}

/// A start in an empty root.
fn rehearsal() -> Start {
    let mut start = start(&["rehearsal"]);
    start.storage = Storage::default();
    start
}

#[track_caller]
fn refused(guest: &Guest, request: Request, why: &str) {
    match guest.request(request).1 {
        Response::Error(error) => assert!(error.message.contains(why), "{error:?}"),
        done @ Response::Ok { .. } => panic!("{done:?} instead of {why:?}"),
    }
}

#[track_caller]
fn done(guest: &Guest, request: Request) {
    let response = guest.request(request).1;
    assert!(matches!(response, Response::Ok { .. }), "{response:?}");
}

#[test]
fn a_rehearsal_leaves_nothing_and_the_root_can_come_before_the_start() {
    if !possible() {
        return;
    }
    let mut guest = Guest::with_layers(&[], true);
    assert_eq!(guest.refused(rehearsal()).kind, ErrorKind::NotFound);
    done(&guest, prepare());
    refused(&guest, prepare(), "prepared already");
    // What does not fit leaves the guest as it was.
    let unknown = Storage {
        layers: vec![BlockDevice {
            serial: "unknown".to_owned(),
            partition: Some(1),
        }],
        ..Storage::default()
    };
    refused(&guest, Request::Assemble(Box::new(unknown)), "unknown");
    let storage = Storage {
        writable: Some(writable()),
        ..Storage::default()
    };
    done(&guest, Request::Assemble(Box::new(storage.clone())));
    let again = Request::Assemble(Box::new(storage));
    refused(&guest, again, "has its root already");
    let error = guest.refused(start(&["missing"]));
    assert_eq!(error.kind, ErrorKind::NotFound);
    refused(&guest, prepare(), "prepared already");
    assert!(guest.agent_is_alive());
}

#[test]
fn a_guest_with_a_container_is_not_prepared() {
    if !possible() {
        return;
    }
    let guest = Guest::new(&|_| {});
    let idle = guest.idle();
    refused(&guest, prepare(), "has its container already");
    drop(idle);
}
