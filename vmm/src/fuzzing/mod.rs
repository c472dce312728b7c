//! What fuzzers call: each function takes bytes and lets them be a hostile guest of one device.
//!
//! Built only with the feature `fuzzing`, for the programs in `fuzz/`. Bytes are a script of
//! what a driver does: it writes registers and memory, offers chains and notifies, and what
//! the host does meanwhile. A function returns when the script ends or when the machine would
//! have; it panics when a device did what it must not, and a load or store outside of guest
//! memory ends the process, because nothing can be touched around it.

#![allow(
    clippy::unwrap_used,
    reason = "a fuzzer's surroundings work, or it stops"
)]

mod driver;
mod front_end;
mod input;
mod memory;
mod witness;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::devices::balloon::Balloon;
use crate::devices::block::{Block, Disk};
use crate::devices::fs::Share;
use crate::devices::net::Net;
use crate::devices::rng::Rng;
use crate::devices::vsock::Vsock;
use crate::transport::Transport;
use driver::{Driver, nothing};
use input::Input;
use witness::Witness;

/// The size of the fuzzed disk.
const DISK: u64 = 64 << 10;

/// The most streams of the host at once.
const STREAMS: usize = 6;

/// A file in memory.
fn scratch_file(size: u64) -> File {
    let file = File::from(memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(size).unwrap();
    file
}

/// The register file: its device checks what the transport promises to devices.
pub fn registers(script: &[u8]) {
    let mut driver = Driver::new(|_| Box::new(Witness::strict()));
    driver.run(&mut Input::new(script), nothing);
}

/// The random-number device.
pub fn rng(script: &[u8]) {
    let mut driver = Driver::new(|_| Box::new(Rng));
    driver.run(&mut Input::new(script), nothing);
}

/// The balloon.
pub fn balloon(script: &[u8]) {
    let mut driver = Driver::new(|_| Box::new(Balloon));
    driver.run(&mut Input::new(script), nothing);
}

/// The block device, with a disk that is written or one that is composed of files.
pub fn block(script: &[u8]) {
    let mut input = Input::new(script);
    let file = scratch_file(DISK);
    let disk = if input.byte() & 1 == 0 {
        Disk::writable(file.try_clone().unwrap(), true)
    } else {
        Disk::composed(vec![file.try_clone().unwrap(), scratch_file(700)], None)
    };
    let mut driver = Driver::new(|_| Box::new(Block::new(disk.unwrap(), "serial".to_owned())));
    driver.run(&mut input, nothing);
    assert_eq!(file.metadata().unwrap().len(), DISK, "the disk has grown");
}

/// The network interface; the host sends frames, and takes the cable away.
pub fn net(script: &[u8]) {
    let cable = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let ends = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (File::from(ends.0), File::from(ends.1))
    };
    let mut wire = None;
    let mut driver = Driver::new(|poller| Box::new(Net::new([2, 0, 0, 0, 0, 1], poller)));
    driver.run(&mut Input::new(script), |device, input| {
        let what = input.byte();
        match (&mut wire, what % 8) {
            (None, _) | (_, 7) => {
                let (ours, theirs) = cable();
                wire = Some(ours);
                device.attach(0, Some(theirs))?;
            }
            (Some(_), 6) => wire = None,
            (Some(wire), 0..=2) => {
                let _ = wire.read(&mut [0; 70_000]);
            }
            (Some(wire), _) => {
                let mut frame = vec![what; usize::from(input.half())];
                let head = input.bytes(12);
                let len = head.len().min(frame.len());
                frame[..len].copy_from_slice(&head[..len]);
                // A full wire loses frames.
                let _ = wire.write(&frame);
            }
        }
        Ok(())
    });
}

/// The socket device; the host connects, sends, receives and closes.
pub fn vsock(script: &[u8]) {
    let mut streams: Vec<UnixStream> = Vec::new();
    let ready_port = guest_agent::protocol::READY_PORT;
    let mut driver = Driver::new(|poller| {
        let vsock = Vsock::new(poller, ready_port, Box::new(|| {}));
        Box::new(vsock)
    });
    driver.run(&mut Input::new(script), |device, input| {
        let (what, which) = (input.byte(), usize::from(input.byte()));
        if what % 4 == 0 && streams.len() < STREAMS {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            streams.push(ours);
            return device.connect(u32::from(input.byte() % 4), theirs);
        }
        let Some(index) = which.checked_rem(streams.len()) else {
            return Ok(());
        };
        match what % 4 {
            1 => drop(streams.swap_remove(index)),
            2 => {
                let _ = streams[index].read(&mut [0; 20_000]);
            }
            _ => {
                let data = vec![what; usize::from(input.half())];
                let _ = streams[index].write(&data);
            }
        }
        Ok(())
    });
}

/// The file system device, which shares a directory that the caller has prepared, and can
/// change and fill it. The caller sees to it that nothing else is in reach.
pub fn fs(script: &[u8], directory: &Path) {
    let share = Share::prepare(directory.to_str().unwrap()).unwrap();
    let mut driver = Driver::new(|_| Box::new(share.open("tag").unwrap()));
    driver.run(&mut Input::new(script), nothing);
}

/// The vhost-user connection, whose front end is the guest's kernel under user-mode Linux.
pub fn vhost_user(script: &[u8]) {
    front_end::run(&mut Input::new(script));
}
