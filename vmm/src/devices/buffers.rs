//! The buffers of a descriptor chain, and system calls straight into and out of them.
//!
//! The only module of the devices with `unsafe`: guest memory is passed to the kernel as
//! `iovec`s, so that data is copied once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestMemory, VolatileSlice};

use super::{DeviceError, Memory};
use crate::trace;

/// The most `iovec`s that the kernel takes at once.
const MAX_IOVECS: usize = 1024;

/// The most bytes that one chain may describe: far above what a driver sends, far below
/// what would make sums overflow.
const MAX_CHAIN_BYTES: usize = 1 << 24;

/// An ordered list of pieces of guest memory, consumed from its front.
#[derive(Debug, Default)]
pub(crate) struct Buffers<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    first: usize,
    len: usize,
}

impl<'m> Buffers<'m> {
    /// Split a chain into what the guest wrote for the device (first) and what the device
    /// shall write (second).
    pub(crate) fn of_chain(
        chain: DescriptorChain<&'m Memory>,
        memory: &'m Memory,
    ) -> Result<(Self, Self), DeviceError> {
        let (mut readable, mut writable) = (Self::default(), Self::default());
        for descriptor in chain {
            let target = if descriptor.is_write_only() {
                &mut writable
            } else if writable.pieces.is_empty() {
                &mut readable
            } else {
                let what = "a readable descriptor follows a writable one";
                return Err(DeviceError::Descriptor(what.to_owned()));
            };
            let len = descriptor.len() as usize;
            target.len += len;
            if target.len > MAX_CHAIN_BYTES {
                return Err(DeviceError::Descriptor("a chain is too long".to_owned()));
            }
            for piece in memory.get_slices(descriptor.addr(), len) {
                let piece = piece.map_err(|error| DeviceError::Descriptor(error.to_string()))?;
                target.pieces.push(piece);
            }
        }
        if let Some(tracer) = trace::get() {
            tracer.read_from_guest(readable.len);
        }
        Ok((readable, writable))
    }

    /// The bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Add pieces at the end.
    pub(crate) fn append(&mut self, other: Self) {
        self.len += other.len;
        self.pieces
            .extend(other.pieces.into_iter().skip(other.first));
    }

    /// Split the last `count` bytes off.
    pub(crate) fn split_tail(&mut self, count: usize) -> Option<Self> {
        let keep = self.len.checked_sub(count)?;
        let tail = self.split_front(keep)?;
        // `split_front` gives the front; the rest stays here.
        Some(std::mem::replace(self, tail))
    }

    /// Split the first `count` bytes off.
    pub(crate) fn split_front(&mut self, count: usize) -> Option<Self> {
        if count > self.len {
            return None;
        }
        let mut front = Self::default();
        while front.len < count {
            let piece = *self.pieces.get(self.first)?;
            let take = piece.len().min(count - front.len);
            front.pieces.push(piece.subslice(0, take).ok()?);
            front.len += take;
            self.advance(take);
        }
        Some(front)
    }

    /// Drop the first `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(piece) = self.pieces.get_mut(self.first) {
            if piece.len() > left {
                if let Ok(rest) = piece.offset(left) {
                    *piece = rest;
                }
                return;
            }
            left -= piece.len();
            self.first += 1;
        }
    }

    /// Copy out of the front; the number of bytes copied.
    pub(crate) fn read(&mut self, data: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(piece) = self.pieces.get(self.first) else {
                break;
            };
            let take = piece.len().min(rest.len());
            let Ok(copied) = piece.read(rest.get_mut(..take).unwrap_or_default(), 0) else {
                // Only an empty piece cannot be read.
                self.first += 1;
                continue;
            };
            self.advance(copied);
            done += copied;
        }
        done
    }

    /// Copy into the front; the number of bytes copied.
    pub(crate) fn write(&mut self, data: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let Some(piece) = self.pieces.get(self.first) else {
                break;
            };
            let take = piece.len().min(rest.len());
            let Ok(copied) = piece.write(rest.get(..take).unwrap_or_default(), 0) else {
                self.first += 1;
                continue;
            };
            self.advance(copied);
            done += copied;
        }
        done
    }

    /// Fill up to `count` bytes of the front with zeros.
    pub(crate) fn write_zeros(&mut self, count: usize) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = count.min(self.len);
        while left > 0 {
            let written = self.write(ZEROS.get(..left.min(ZEROS.len())).unwrap_or_default());
            if written == 0 {
                break;
            }
            left -= written;
        }
    }

    /// The front as `iovec`s of up to `limit` bytes. They are valid as long as the guest
    /// memory that the pieces borrow.
    fn iovecs(&self, limit: usize) -> Vec<libc::iovec> {
        let mut left = limit;
        let mut iovecs = Vec::with_capacity((self.pieces.len() - self.first).min(MAX_IOVECS));
        for piece in self.pieces.iter().skip(self.first).take(MAX_IOVECS) {
            let take = piece.len().min(left);
            if take == 0 {
                if left == 0 {
                    break;
                }
                continue;
            }
            iovecs.push(libc::iovec {
                iov_base: piece.ptr_guard_mut().as_ptr().cast(),
                iov_len: take,
            });
            left -= take;
        }
        iovecs
    }

    /// Fill the front with up to `limit` bytes of a file from `offset`; consumes what was
    /// filled. Less than asked for means the end of the file.
    pub(crate) fn fill_from_file(
        &mut self,
        file: BorrowedFd<'_>,
        mut offset: u64,
        limit: usize,
    ) -> io::Result<usize> {
        let mut done = 0;
        let limit = limit.min(self.len);
        while done < limit {
            let iovecs = self.iovecs(limit - done);
            let at = to_offset(offset)?;
            // SAFETY: every iovec lies within guest memory, which stays mapped while `self`
            // borrows it; the kernel checks the descriptor. Concurrent access by the guest
            // is what guest memory is for: no Rust reference to it exists.
            let n = check(unsafe {
                libc::preadv(file.as_raw_fd(), iovecs.as_ptr(), count_of(&iovecs), at)
            });
            match n {
                Ok(0) => break,
                Ok(n) => {
                    self.advance(n);
                    done += n;
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Write everything that is left to a file at `offset`.
    pub(crate) fn drain_to_file(
        &mut self,
        file: BorrowedFd<'_>,
        mut offset: u64,
    ) -> io::Result<()> {
        while self.len > 0 {
            let iovecs = self.iovecs(self.len);
            let at = to_offset(offset)?;
            // SAFETY: as in `fill_from_file`; the kernel only reads.
            let n = check(unsafe {
                libc::pwritev(file.as_raw_fd(), iovecs.as_ptr(), count_of(&iovecs), at)
            });
            match n {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.advance(n);
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fill the front with up to `limit` bytes of a socket without waiting; consumes what
    /// was filled. Zero is the end of the stream.
    pub(crate) fn fill_from_socket(
        &mut self,
        socket: BorrowedFd<'_>,
        limit: usize,
    ) -> io::Result<usize> {
        let mut iovecs = self.iovecs(limit);
        let mut message = message_of(&mut iovecs);
        // SAFETY: `message` points to `iovecs`, which lives until the call returns, and these
        // lie within guest memory as in `fill_from_file`.
        let n = check(unsafe {
            libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT)
        })?;
        self.advance(n);
        Ok(n)
    }

    /// Read one frame: its first bytes into `header`, the rest into the front; consumes what
    /// was filled. Returns the length of the rest. What does not fit is lost.
    pub(crate) fn read_frame(
        &mut self,
        file: BorrowedFd<'_>,
        header: &mut [u8],
    ) -> io::Result<usize> {
        let mut iovecs = vec![libc::iovec {
            iov_base: header.as_mut_ptr().cast(),
            iov_len: header.len(),
        }];
        iovecs.extend(self.iovecs(self.len));
        iovecs.truncate(MAX_IOVECS);
        // SAFETY: the first iovec is `header`, which is borrowed for the call; the others lie
        // within guest memory as in `fill_from_file`.
        let n =
            check(unsafe { libc::readv(file.as_raw_fd(), iovecs.as_ptr(), count_of(&iovecs)) })?;
        let rest = n.saturating_sub(header.len());
        self.advance(rest);
        Ok(rest)
    }

    /// Write one frame: `header`, then everything that is left.
    pub(crate) fn write_frame(&self, file: BorrowedFd<'_>, header: &mut [u8]) -> io::Result<()> {
        let mut iovecs = vec![libc::iovec {
            iov_base: header.as_mut_ptr().cast(),
            iov_len: header.len(),
        }];
        iovecs.extend(self.iovecs(self.len));
        if iovecs.len() > MAX_IOVECS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: as in `read_frame`; the kernel only reads.
        check(unsafe { libc::writev(file.as_raw_fd(), iovecs.as_ptr(), count_of(&iovecs)) })?;
        Ok(())
    }

    /// Send what is left to a socket without waiting; consumes what was sent.
    pub(crate) fn drain_to_socket(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut iovecs = self.iovecs(self.len);
        let message = message_of(&mut iovecs);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: as in `fill_from_socket`; the kernel only reads.
        let n = check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })?;
        self.advance(n);
        Ok(n)
    }
}

fn message_of(iovecs: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeros is a valid `msghdr`: no address, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    message
}

fn count_of(iovecs: &[libc::iovec]) -> libc::c_int {
    // At most MAX_IOVECS.
    iovecs.len() as libc::c_int
}

fn to_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
