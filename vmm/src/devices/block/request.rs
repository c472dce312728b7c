//! One block request: a header, data, and a status byte.

use std::io;

use virtio_bindings::virtio_blk as blk;
use virtio_queue::DescriptorChain;

use super::MAX_RANGE_SECTORS;
use super::disk::Disk;
use super::gpt::SECTOR;
use crate::devices::{Buffers, DeviceError, Memory};

/// The length of a request's header.
const HEADER_LEN: usize = 16;

/// The length of the serial in an answer.
const SERIAL_LEN: usize = 20;

/// The flag of a write-zeroes range that lets the space be given back.
const UNMAP: u32 = 1;

/// Why a request is not served.
enum Refusal {
    /// The device cannot do that.
    Unsupported,
    /// It makes no sense, or the host's file failed.
    Failed,
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Served {
    /// Bytes written to the guest.
    pub(super) written: u32,
    /// Bytes read from the disk.
    pub(super) read: u64,
    /// Bytes written to the disk.
    pub(super) wrote: u64,
}

/// Serve one request.
pub(super) fn serve(
    disk: &Disk,
    serial: &str,
    chain: DescriptorChain<&Memory>,
    memory: &Memory,
) -> Result<Served, DeviceError> {
    let (mut readable, mut writable) = Buffers::of_chain(chain, memory)?;
    let sent = readable.len().saturating_sub(HEADER_LEN);
    // Without room for a status there is no way to answer.
    let Some(mut status) = writable.split_tail(1) else {
        return Err(DeviceError::Descriptor(
            "a block request has no status byte".to_owned(),
        ));
    };
    let room = writable.len();
    let code = match execute(disk, serial, &mut readable, &mut writable) {
        Ok(()) => blk::VIRTIO_BLK_S_OK,
        Err(Refusal::Unsupported) => blk::VIRTIO_BLK_S_UNSUPP,
        Err(Refusal::Failed) => blk::VIRTIO_BLK_S_IOERR,
    };
    status.write(&[code as u8]);
    let data = if code == blk::VIRTIO_BLK_S_OK {
        room - writable.len()
    } else {
        0
    };
    Ok(Served {
        written: data as u32 + 1,
        read: data as u64,
        wrote: sent as u64,
    })
}

fn execute(
    disk: &Disk,
    serial: &str,
    readable: &mut Buffers<'_>,
    writable: &mut Buffers<'_>,
) -> Result<(), Refusal> {
    let mut header = [0; HEADER_LEN];
    if readable.read(&mut header) != header.len() {
        return Err(Refusal::Failed);
    }
    let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
    let kind = u32::from_le_bytes([k0, k1, k2, k3]);
    let sector = u64::from_le_bytes(sector);
    match (kind, disk) {
        (blk::VIRTIO_BLK_T_IN, _) => {
            let offset = place(disk, sector, writable.len())?;
            Ok(disk.read(offset, writable)?)
        }
        (blk::VIRTIO_BLK_T_GET_ID, _) => {
            let mut id = [0; SERIAL_LEN];
            for (to, from) in id.iter_mut().zip(serial.bytes()) {
                *to = from;
            }
            writable.write(&id);
            Ok(())
        }
        (blk::VIRTIO_BLK_T_OUT, Disk::Writable(disk_file)) => {
            let offset = place(disk, sector, readable.len())?;
            Ok(disk_file.write(offset, readable)?)
        }
        (blk::VIRTIO_BLK_T_FLUSH, Disk::Writable(disk_file)) => Ok(disk_file.flush()?),
        (
            kind @ (blk::VIRTIO_BLK_T_DISCARD | blk::VIRTIO_BLK_T_WRITE_ZEROES),
            Disk::Writable(disk_file),
        ) => {
            let mut range = [0; 16];
            // One range per request is what the configuration space allows.
            if readable.len() != range.len() || readable.read(&mut range) != range.len() {
                return Err(Refusal::Failed);
            }
            let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = range;
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let count = u32::from_le_bytes([n0, n1, n2, n3]);
            let flags = u32::from_le_bytes(flags);
            let discard = kind == blk::VIRTIO_BLK_T_DISCARD;
            if flags & !UNMAP != 0 || discard && flags != 0 {
                return Err(Refusal::Unsupported);
            }
            if count > MAX_RANGE_SECTORS {
                return Err(Refusal::Failed);
            }
            let len = u64::from(count) * SECTOR;
            let offset = place(
                disk,
                sector,
                usize::try_from(len).map_err(|_| Refusal::Failed)?,
            )?;
            if len == 0 {
                return Ok(());
            }
            Ok(disk_file.zero(offset, len, discard || flags & UNMAP != 0)?)
        }
        _ => Err(Refusal::Unsupported),
    }
}

/// The byte at which a request of `len` bytes begins, if it lies on the disk.
fn place(disk: &Disk, sector: u64, len: usize) -> Result<u64, Refusal> {
    let offset = sector.checked_mul(SECTOR).ok_or(Refusal::Failed)?;
    let end = offset.checked_add(len as u64).ok_or(Refusal::Failed)?;
    if end > disk.size() || !(len as u64).is_multiple_of(SECTOR) {
        return Err(Refusal::Failed);
    }
    Ok(offset)
}
