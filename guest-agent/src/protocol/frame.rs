//! Framing: one byte of kind, three zero bytes, a little-endian length, the payload.

use std::io::{self, Read, Write};

/// Bytes before a frame's payload.
pub const HEADER_LEN: usize = 8;

/// The largest payload either side accepts, in bytes; a longer one ends the connection.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Host to guest, first frame of every connection: an [`super::Envelope`] as JSON.
    Request = 1,
    /// Guest to host, answers the request: a [`super::Response`] as JSON.
    Response = 2,
    /// Host to guest: bytes for the process's standard input.
    Stdin = 3,
    /// Host to guest: standard input is at its end. No payload.
    StdinClose = 4,
    /// Guest to host: bytes the process wrote to standard output (or to its terminal), or
    /// a piece of an exported archive.
    Stdout = 5,
    /// Guest to host: bytes the process wrote to standard error.
    Stderr = 6,
    /// Guest to host, last frame: an [`super::Exit`] as JSON.
    Exit = 7,
}

impl FrameKind {
    /// The kind with this number, if there is one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Stdin,
            4 => Self::StdinClose,
            5 => Self::Stdout,
            6 => Self::Stderr,
            7 => Self::Exit,
            _ => return None,
        })
    }
}

/// One frame, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced a payload beyond [`MAX_PAYLOAD`].
    #[error("peer sent a frame of {0} bytes, the limit is {MAX_PAYLOAD}")]
    TooLong(u32),
    /// The kind byte or the zero bytes are not of this protocol.
    #[error("peer sent a frame header that is not of this protocol: {0:02x?}")]
    BadHeader([u8; 4]),
    /// The connection failed or ended inside a frame.
    #[error("connection broke inside a frame: {0}")]
    Io(#[from] io::Error),
}

/// The header of a frame of `kind` with `len` payload bytes (`len` ≤ [`MAX_PAYLOAD`]).
pub fn encode_header(kind: FrameKind, len: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = kind as u8;
    header[4..].copy_from_slice(&(len as u32).to_le_bytes());
    header
}

/// Decodes a header into kind and payload length, refusing what the protocol does not know.
pub fn decode_header(header: [u8; HEADER_LEN]) -> Result<(FrameKind, usize), FrameError> {
    let [kind, a, b, c, l0, l1, l2, l3] = header;
    let known = FrameKind::from_byte(kind).filter(|_| [a, b, c] == [0; 3]);
    let kind = known.ok_or(FrameError::BadHeader([kind, a, b, c]))?;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    if len as usize > MAX_PAYLOAD {
        return Err(FrameError::TooLong(len));
    }
    Ok((kind, len as usize))
}

/// Reads one frame; `None` when the peer closed between frames.
pub fn read_frame(reader: &mut impl Read) -> Result<Option<Frame>, FrameError> {
    let mut header = [0; HEADER_LEN];
    loop {
        match reader.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    reader.read_exact(&mut header[1..])?;
    let (kind, len) = decode_header(header)?;
    let mut payload = vec![0; len];
    reader.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, payload }))
}

/// Writes one frame; payloads beyond [`MAX_PAYLOAD`] are refused with `InvalidInput`.
pub fn write_frame(writer: &mut impl Write, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        let text = format!(
            "frame of {} bytes, the limit is {MAX_PAYLOAD}",
            payload.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    writer.write_all(&encode_header(kind, payload.len()))?;
    writer.write_all(payload)?;
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = FrameKind> {
        (1u8..8).prop_map(|byte| FrameKind::from_byte(byte).unwrap())
    }

    #[test]
    fn what_is_not_of_the_protocol_is_refused() {
        assert!(matches!(
            decode_header(*b"GET / HT"),
            Err(FrameError::BadHeader(_))
        ));
        assert!(matches!(
            decode_header([0; 8]),
            Err(FrameError::BadHeader(_))
        ));
        assert!(matches!(
            decode_header([8, 0, 0, 0, 0, 0, 0, 0]),
            Err(FrameError::BadHeader(_))
        ));
        assert!(matches!(
            decode_header([3, 0, 1, 0, 0, 0, 0, 0]),
            Err(FrameError::BadHeader(_))
        ));
        let long = encode_header(FrameKind::Stdin, MAX_PAYLOAD + 1);
        assert!(
            matches!(decode_header(long), Err(FrameError::TooLong(n)) if n as usize == MAX_PAYLOAD + 1)
        );
        let whole = encode_header(FrameKind::Stdin, MAX_PAYLOAD);
        assert_eq!(
            decode_header(whole).unwrap(),
            (FrameKind::Stdin, MAX_PAYLOAD)
        );
        let refused = write_frame(&mut Vec::new(), FrameKind::Stdin, &vec![0; MAX_PAYLOAD + 1]);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn frames_come_back_and_a_cut_is_noticed(
            frames in proptest::collection::vec((kinds(), proptest::collection::vec(any::<u8>(), 0..200)), 1..5),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            let mut borders = vec![0];
            for (kind, payload) in &frames {
                write_frame(&mut bytes, *kind, payload).unwrap();
                borders.push(bytes.len());
            }
            let mut reader = bytes.as_slice();
            for (kind, payload) in &frames {
                let frame = read_frame(&mut reader).unwrap().unwrap();
                prop_assert_eq!((&frame.kind, &frame.payload), (kind, payload));
            }
            prop_assert!(read_frame(&mut reader).unwrap().is_none());

            let cut = cut.index(bytes.len());
            let mut reader = &bytes[..cut];
            let end = loop {
                match read_frame(&mut reader) {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            prop_assert_eq!(end.is_ok(), borders.contains(&cut));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = bytes.as_slice();
            while let Ok(Some(frame)) = read_frame(&mut reader) {
                prop_assert!(frame.payload.len() <= bytes.len());
            }
        }
    }
}
