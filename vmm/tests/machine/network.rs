//! Network interfaces as the guest sees them. The other end of the cable is a socket that
//! keeps frames apart, as a TAP device does.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use vmm::{Machine, NetworkPlace};

use crate::support::{ask, ask_with, boot, config};

pub const TESTS: &[(&str, fn())] = &[("network::frames_go_both_ways", frames_go_both_ways)];

const MAC: [u8; 6] = [2, 0x48, 0, 0, 0, 5];

/// The header before each frame.
const HEADER: usize = 12;

/// Connect an interface. Returns the other end of the cable.
fn cable(machine: &Machine) -> File {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    nix::fcntl::fcntl(
        &theirs,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .unwrap();
    let place = NetworkPlace::interface(0);
    machine
        .connect_network(place, Some(theirs.as_fd()))
        .unwrap();
    File::from(ours)
}

/// The next frame that the guest sends by itself: it looks for IPv6 neighbours.
fn receive(wire: &mut File) -> Vec<u8> {
    let mut frame = vec![0; 70_000];
    let len = wire.read(&mut frame).unwrap();
    frame.truncate(len);
    frame.split_off(HEADER)
}

fn frames_go_both_ways() {
    let mut config = config("network");
    config.interfaces = vec![MAC];
    let machine = boot(&config);
    let about = |what: &str| ask(&machine, &format!("read /sys/class/net/eth0/{what}"));
    assert_eq!(about("address"), "02:48:00:00:00:05");
    let mut wire = cable(&machine);
    // Up, broadcast, multicast. That the file cannot be flushed does not matter.
    ask_with(&machine, "write /sys/class/net/eth0/flags 0", b"0x1003");
    assert_eq!(about("flags"), "0x1003");
    let frame = receive(&mut wire);
    assert_eq!(
        (&frame[6..12], &frame[12..14]),
        (&MAC[..], &[0x86, 0xdd][..])
    );

    // A frame that fills many of the guest's buffers, of a kind that it drops.
    let mut large = vec![0; HEADER];
    large.extend(MAC);
    large.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    large.resize(HEADER + 60_000, 7);
    wire.write_all(&large).unwrap();
    while about("statistics/rx_bytes").parse::<u64>().unwrap() < 60_000 {}
    assert_eq!(about("statistics/rx_errors"), "0");

    // Another cable works like the first.
    let mut wire = cable(&machine);
    wire.write_all(&large).unwrap();
    while about("statistics/rx_bytes").parse::<u64>().unwrap() < 120_000 {}
}
