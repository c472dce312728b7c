use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use proptest::prelude::*;

use super::*;
use crate::devices::rng::Rng;
use crate::poll::{Poller, Ready};

/// The size of a test guest's memory.
const MEMORY: u64 = 1 << 20;

/// Where the test's front end says that it has the memory mapped.
const USER: u64 = 0x7000_0000_0000;

fn guest_memory() -> OwnedFd {
    let memory = memfd_create(c"guest", MFdFlags::MFD_CLOEXEC).unwrap();
    File::from(memory.try_clone().unwrap())
        .set_len(MEMORY)
        .unwrap();
    memory
}

/// A front end's side of the connection.
struct FrontEnd(UnixStream);

impl FrontEnd {
    fn new() -> (Self, VhostUser, Poller) {
        let (front, back) = UnixStream::pair().unwrap();
        let poller = Poller::new().unwrap();
        let device = Box::new(Rng);
        let own = poller.for_owner(1);
        let transport = VhostUser::new(back, device, own, MemoryCache::default()).unwrap();
        (Self(front), transport, poller)
    }

    fn send(&self, request: u32, flags: u32, payload: &[u8], fds: &[i32]) {
        let mut bytes = Vec::new();
        for field in [request, flags, payload.len() as u32] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(payload);
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL;
        // The other side may have hung up on the message before.
        let _ = sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            flags,
            None,
        );
    }
}

/// Let the transport work until it has nothing more to do, or fails.
fn serve(transport: &mut VhostUser, poller: &Poller) -> Result<(), TransportError> {
    let mut ready: Vec<Ready> = Vec::new();
    for _ in 0..100 {
        // Ends the wait.
        let (end, other) = UnixStream::pair().unwrap();
        drop(other);
        poller.watch(end.as_fd(), 0).unwrap();
        poller.wait(&mut ready).unwrap();
        poller.unwatch(end.as_fd()).unwrap();
        ready.retain(|event| event.owner == 1);
        if ready.is_empty() {
            break;
        }
        for event in &ready {
            transport.transport_event(*event)?;
        }
    }
    Ok(())
}

fn words(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn state(index: u32, value: u32) -> Vec<u8> {
    [index.to_le_bytes(), value.to_le_bytes()].concat()
}

/// A table of one region, as SET_MEM_TABLE carries it.
fn table(size: u64) -> Vec<u8> {
    [
        1u32.to_le_bytes().to_vec(),
        vec![0; 4],
        words(&[0, size, USER, 0]),
    ]
    .concat()
}

fn address(index: u32, descriptor: u64, used: u64, available: u64) -> Vec<u8> {
    [state(index, 0), words(&[descriptor, used, available, 0])].concat()
}

#[test]
fn a_queue_is_set_up_and_served() {
    let (front, mut transport, poller) = FrontEnd::new();
    let memory = guest_memory();
    let file = File::from(memory.try_clone().unwrap());
    // One request for 64 random bytes.
    use std::os::unix::fs::FileExt;
    file.write_all_at(&words(&[0x8000, 64 | 2 << 32]), 0)
        .unwrap();
    file.write_all_at(&[0, 0, 1, 0, 0, 0], 0x1000).unwrap();
    let (kick, call) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    // Protocol features, indirect descriptors and version 1.
    front.send(2, 1, &words(&[1 << 30 | 1 << 32 | 1 << 28]), &[]);
    front.send(5, 1, &table(MEMORY), &[memory.as_raw_fd()]);
    front.send(8, 1, &state(0, 64), &[]);
    front.send(10, 1, &state(0, 0), &[]);
    front.send(9, 1, &address(0, USER, USER + 0x2000, USER + 0x1000), &[]);
    front.send(13, 1, &words(&[0]), &[call.as_raw_fd()]);
    front.send(12, 1, &words(&[0]), &[kick.as_raw_fd()]);
    front.send(18, 1, &state(0, 1), &[]);
    serve(&mut transport, &poller).unwrap();
    let mut used = [0; 12];
    file.read_exact_at(&mut used, 0x2000).unwrap();
    assert_eq!(used, [0, 0, 1, 0, 0, 0, 0, 0, 64, 0, 0, 0]);
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, 0x8000).unwrap();
    assert_ne!(bytes, [0; 64]);
    assert!(call.read().unwrap() >= 1);
    // A second request, announced by a kick.
    file.write_all_at(&[2, 0, 0, 0, 0, 0], 0x1002).unwrap();
    kick.write(1).unwrap();
    serve(&mut transport, &poller).unwrap();
    file.read_exact_at(&mut used, 0x2000).unwrap();
    assert_eq!(used[2..4], [2, 0]);
    // Switched off, it is served no more.
    front.send(18, 1, &state(0, 0), &[]);
    serve(&mut transport, &poller).unwrap();
    file.write_all_at(&[3, 0], 0x1002).unwrap();
    kick.write(1).unwrap();
    serve(&mut transport, &poller).unwrap();
    file.read_exact_at(&mut used, 0x2000).unwrap();
    assert_eq!(used[2..4], [2, 0]);
}

#[test]
fn memory_beyond_its_file_is_refused() {
    let (front, mut transport, poller) = FrontEnd::new();
    let memory = guest_memory();
    front.send(5, 1, &table(MEMORY + 4096), &[memory.as_raw_fd()]);
    assert!(serve(&mut transport, &poller).is_err());
}

/// A message: request, flags, payload, and how many descriptors of which kind.
fn message() -> impl Strategy<Value = (u32, u32, Vec<u8>, usize, bool)> {
    let small = prop_oneof![0u64..4, Just(USER), Just(USER + 0x1000), any::<u64>()];
    let payload = prop_oneof![
        prop::collection::vec(small, 0..6).prop_map(|values| words(&values)),
        prop::collection::vec(any::<u8>(), 0..64),
        (any::<u32>(), any::<u32>()).prop_map(|(a, b)| state(a % 3, b % 300)),
        Just(table(MEMORY)),
        any::<u64>().prop_map(table),
        (0u32..2, any::<u16>(), any::<u16>(), any::<u16>()).prop_map(|(index, d, u, a)| {
            address(
                index,
                USER + u64::from(d),
                USER + u64::from(u),
                USER + u64::from(a),
            )
        }),
    ];
    let flags = prop_oneof![8 => Just(1u32), 1 => any::<u32>()];
    (0u32..45, flags, payload, 0usize..3, any::<bool>())
}

proptest! {
    /// Whatever a front end sends, the transport works, fails, or notices the end.
    #[test]
    fn hostile_front_ends_are_harmless(messages in prop::collection::vec(message(), 1..40), rest: Vec<u8>) {
        let (mut front, mut transport, poller) = FrontEnd::new();
        let (memory, event) = (guest_memory(), EventFd::new().unwrap());
        for (request, flags, payload, fds, as_memory) in messages {
            let fd = if as_memory { memory.as_raw_fd() } else { event.as_raw_fd() };
            front.send(request, flags, &payload, &vec![fd; fds]);
            if serve(&mut transport, &poller).is_err() {
                return Ok(());
            }
        }
        // Half a message, and the end.
        let _ = front.0.write_all(rest.get(..11).unwrap_or(&rest));
        let _ = front.0.shutdown(Shutdown::Write);
        let _ = serve(&mut transport, &poller);
    }
}
