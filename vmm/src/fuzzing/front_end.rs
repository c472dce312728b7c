//! A vhost-user front end that sends what a script says.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::input::Input;
use super::scratch_file;
use super::witness::Witness;
use crate::eventfd;
use crate::poll::{Poller, Ready};
use crate::transport::{MemoryCache, Transport, TransportError, VhostUser};

/// The size of the guest's memory.
const MEMORY: u64 = 256 << 10;
/// Where the front end says that it has it mapped.
const USER: u64 = 0x7000_0000_0000;

/// Requests that set a queue up, in the order in which a good front end sends them.
const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ENABLE: u32 = 18;

struct FrontEnd {
    socket: UnixStream,
    transport: VhostUser,
    poller: Poller,
    memory: File,
    event: File,
}

/// Be a front end until the script ends, or the machine would.
pub(super) fn run(input: &mut Input<'_>) {
    let (socket, back) = UnixStream::pair().unwrap();
    let poller = Poller::new().unwrap();
    let mut alarm = eventfd::new().unwrap();
    alarm.write_all(&1u64.to_ne_bytes()).unwrap();
    poller.watch(alarm.as_fd(), 0).unwrap();
    let device = Box::new(Witness::lenient());
    let own = poller.for_owner(1);
    let transport = VhostUser::new(back, device, own, MemoryCache::default()).unwrap();
    let mut front = FrontEnd {
        socket,
        transport,
        poller,
        memory: scratch_file(MEMORY),
        event: eventfd::new().unwrap(),
    };
    while !input.is_empty() {
        if front.step(input).is_err() {
            return;
        }
    }
    let _ = front.socket.shutdown(Shutdown::Write);
    let _ = front.serve();
}

impl FrontEnd {
    fn step(&mut self, input: &mut Input<'_>) -> Result<(), TransportError> {
        match input.byte() % 8 {
            0 => self.set_up(input)?,
            1 => {
                use std::os::unix::fs::FileExt;
                let place = u64::from(input.half()) * 4;
                let len = usize::from(input.byte());
                self.memory.write_at(input.bytes(len), place)?;
            }
            2 => {
                self.event.write_all(&1u64.to_ne_bytes())?;
            }
            3 => {
                let (index, value) = (input.byte() % 4, input.half());
                let request = u32::from(input.byte() % 45);
                let payload = state(index.into(), value.into());
                self.send(request, 1, &payload, 0, false);
            }
            _ => {
                let request = u32::from(input.byte() % 45);
                let flags = match input.byte() {
                    0 => input.word(),
                    _ => 1,
                };
                let (len, fds) = (input.byte(), input.byte());
                let payload = input.bytes(usize::from(len));
                self.send(request, flags, payload, fds % 4, fds & 0x80 != 0);
            }
        }
        self.serve()
    }

    /// One queue, as a good front end sets it up, but for one byte.
    fn set_up(&mut self, input: &mut Input<'_>) -> Result<(), TransportError> {
        let (index, spoiled) = (u32::from(input.byte() % 3), input.byte());
        let base = USER + u64::from(index) * 0x4000;
        let features = words(&[1 << 30 | 1 << 32 | 1 << 29 | 1 << 28]);
        let table = [state(1, 0), words(&[0, MEMORY, USER, 0])].concat();
        let address = [
            state(index, 0),
            words(&[base, base + 0x2000, base + 0x1000, 0]),
        ]
        .concat();
        let event = words(&[u64::from(index)]);
        let messages = [
            (SET_FEATURES, features, 0, false),
            (SET_MEM_TABLE, table, 1, true),
            (SET_VRING_NUM, state(index, 64), 0, false),
            (SET_VRING_BASE, state(index, 0), 0, false),
            (SET_VRING_ADDR, address, 0, false),
            (SET_VRING_CALL, event.clone(), 1, false),
            (SET_VRING_KICK, event, 1, false),
            (SET_VRING_ENABLE, state(index, 1), 0, false),
        ];
        for (number, (request, mut payload, fds, as_memory)) in messages.into_iter().enumerate() {
            if usize::from(spoiled) == number {
                let place = usize::from(input.byte()) % payload.len();
                payload[place] = input.byte();
            }
            self.send(request, 1, &payload, fds, as_memory);
            self.serve()?;
        }
        Ok(())
    }

    fn send(&self, request: u32, flags: u32, payload: &[u8], fds: u8, as_memory: bool) {
        let mut bytes = Vec::new();
        for field in [request, flags, payload.len() as u32] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(payload);
        let file = if as_memory { &self.memory } else { &self.event };
        let fds = vec![file.as_raw_fd(); fds.into()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        // The other side may have hung up before.
        let _ = sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            flags,
            None,
        );
    }

    fn serve(&mut self) -> Result<(), TransportError> {
        let mut ready: Vec<Ready> = Vec::new();
        for _ in 0..64 {
            self.poller.wait(&mut ready)?;
            ready.retain(|event| event.owner == 1);
            if ready.is_empty() {
                break;
            }
            for event in &ready {
                self.transport.transport_event(*event)?;
            }
        }
        Ok(())
    }
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
