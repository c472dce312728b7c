//! The agent protocol's frames over tokio streams.

use std::io;

use guest_agent::protocol::{
    Frame, FrameError, FrameKind, HEADER_LEN, decode_header, encode_header,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads one frame; `None` when the peer closed, whether between frames or inside one: for a
/// supervisor both mean that the peer is gone.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, FrameError> {
    let mut header = [0; HEADER_LEN];
    if !gone_is_none(stream.read_exact(&mut header).await)? {
        return Ok(None);
    }
    let (kind, length) = decode_header(header)?;
    let mut payload = vec![0; length];
    let whole = gone_is_none(stream.read_exact(&mut payload).await)?;
    Ok(whole.then_some(Frame { kind, payload }))
}

/// Writes one frame of at most the protocol's largest payload.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    payload: &[u8],
) -> io::Result<()> {
    stream
        .write_all(&encode_header(kind, payload.len()))
        .await?;
    stream.write_all(payload).await
}

/// Writes one frame with a message as JSON.
pub async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    message: &impl serde::Serialize,
) -> io::Result<()> {
    write(stream, kind, &serde_json::to_vec(message)?).await
}

fn gone_is_none(result: io::Result<usize>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
