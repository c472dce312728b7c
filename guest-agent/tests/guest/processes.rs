//! Users, programs, capabilities, terminals, exits.
use guest_agent::protocol::*;

use crate::harness::*;

#[test]
fn first() {
    if !possible() { return; }
    let guest = Guest::new(&|_| {});
    let out = guest.run(shell("id; hostname; pwd; env; ps; mount; ls -la /dev /proc/self/fd / ; echo err >&2; exit 7"));
    println!("{}", out.text());
    assert_eq!(out.stderr, b"err\n");
    assert_eq!(out.exit.code, 7);
}
