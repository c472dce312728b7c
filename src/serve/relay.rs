//! One connection to a process's streams, shared by the clients that are attached to it.

use std::sync::Arc;

use futures_util::future::join_all;
use guest_agent::protocol::{Exit, Frame, FrameKind};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::frames;

/// Frames that wait for one client; the next one holds the process up, as a pipe would.
const OUTPUT_QUEUE: usize = 16;
/// Pieces of standard input that wait for the process.
const INPUT_QUEUE: usize = 4;

/// What a client has of a process.
#[derive(Debug)]
pub struct Feed {
    /// What the process writes, and at last how it ended.
    pub output: mpsc::Receiver<Arc<Frame>>,
    /// What it reads.
    pub input: mpsc::Sender<Input>,
}

/// Standard input on its way to the process.
#[derive(Debug)]
pub enum Input {
    /// Bytes.
    Data(Vec<u8>),
    /// The end.
    Close,
}

/// Who hears how the process ended, before any client does; none when it vanished.
pub type Ended = Box<dyn FnOnce(Option<Exit>) + Send>;

/// How to go on to a process's end, after its clients have left.
pub struct ToTheEnd {
    /// Who hears how it ended.
    pub ended: Ended,
    /// Its standard input ends when the last client leaves.
    pub close: bool,
}

impl std::fmt::Debug for ToTheEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToTheEnd").finish_non_exhaustive()
    }
}

/// Shares `stream` among so many clients, until they have all left; with `end`, to the
/// process's end.
pub fn start(stream: UnixStream, clients: usize, end: Option<ToTheEnd>) -> Vec<Feed> {
    let (input, inputs) = mpsc::channel(INPUT_QUEUE);
    let (outputs, feeds) = (0..clients)
        .map(|_| {
            let (sender, output) = mpsc::channel(OUTPUT_QUEUE);
            let input = input.clone();
            (sender, Feed { output, input })
        })
        .unzip();
    tokio::spawn(carry(stream, outputs, inputs, end));
    feeds
}

async fn carry(
    stream: UnixStream,
    outputs: Vec<mpsc::Sender<Arc<Frame>>>,
    inputs: mpsc::Receiver<Input>,
    end: Option<ToTheEnd>,
) {
    let (reader, writer) = stream.into_split();
    let all_left = join_all(outputs.clone().into_iter().map(left));
    let to_the_end = end.is_some();
    let close = end.as_ref().is_some_and(|end| end.close);
    let ended = end.map(|end| end.ended);
    let left = async {
        all_left.await;
        if to_the_end {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = receive(reader, outputs, ended) => {}
        () = send(writer, inputs, close) => {}
        () = left => {}
    }
}

async fn left(output: mpsc::Sender<Arc<Frame>>) {
    output.closed().await;
}

/// Gives every frame to every client that is still there, waiting for the slowest.
async fn receive(
    mut reader: OwnedReadHalf,
    mut outputs: Vec<mpsc::Sender<Arc<Frame>>>,
    ended: Option<Ended>,
) {
    while let Ok(Some(frame)) = frames::read(&mut reader).await {
        let last = frame.kind == FrameKind::Exit;
        let frame = Arc::new(frame);
        if last {
            if let Some(ended) = ended {
                ended(serde_json::from_slice(&frame.payload).ok());
            }
            give(&mut outputs, &frame).await;
            return;
        }
        give(&mut outputs, &frame).await;
    }
    if let Some(ended) = ended {
        ended(None);
    }
}

async fn give(outputs: &mut Vec<mpsc::Sender<Arc<Frame>>>, frame: &Arc<Frame>) {
    let mut there = Vec::with_capacity(outputs.len());
    for output in outputs.drain(..) {
        if output.send(frame.clone()).await.is_ok() {
            there.push(output);
        }
    }
    *outputs = there;
}

/// Sends input as long as the process reads, and takes what comes after that too.
async fn send(mut writer: OwnedWriteHalf, mut inputs: mpsc::Receiver<Input>, close: bool) {
    let mut reads = true;
    while let Some(input) = inputs.recv().await {
        if !reads {
            continue;
        }
        let sent = match input {
            Input::Data(bytes) => frames::write(&mut writer, FrameKind::Stdin, &bytes).await,
            Input::Close => frames::write(&mut writer, FrameKind::StdinClose, &[]).await,
        };
        reads = sent.is_ok();
    }
    if reads && close {
        let _ = frames::write(&mut writer, FrameKind::StdinClose, &[]).await;
    }
    // The writer stays open: its end would be the client's end.
    std::future::pending::<()>().await;
}
