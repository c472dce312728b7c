//! Clients of a supervisor: attached command lines, waiters, `exec`, `stop`.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use guest_agent::protocol::{Exit, FrameError, FrameKind};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::hub::{Hub, Input};
use super::{network, stop};
use crate::container::control::{Attach, ControlReply, ControlRequest};
use crate::container::descriptors;
use crate::frames;

/// Accepts clients until the task is dropped; a client's trouble ends that client only.
pub async fn accept(listener: UnixListener, hub: Rc<Hub>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tasks.spawn_local(serve(stream, hub.clone()));
                }
                // Out of descriptors: let clients that are being served finish.
                Err(_) => {
                    if tasks.join_next().await.is_none() {
                        tokio::task::yield_now().await;
                    }
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// The client that started the container: it hears how the start went, then is attached.
pub async fn serve_starter(mut stream: UnixStream, attach: Attach, hub: Rc<Hub>) {
    // Subscribed before the first process runs, so nothing it writes is missed.
    let subscription = attach.output.then(|| (hub.subscribe(), hub.end()));
    let mut progress = hub.progress();
    let Ok(state) = progress
        .wait_for(|p| p.started.is_some())
        .await
        .map(|p| p.clone())
    else {
        return;
    };
    let reply = state.started.unwrap_or(ControlReply::Ok {
        warnings: Vec::new(),
        boot: None,
    });
    let good = matches!(reply, ControlReply::Ok { .. });
    let told = frames::send(&mut stream, FrameKind::Response, &reply)
        .await
        .is_ok();
    match subscription {
        Some((subscription, end)) if good && told => {
            attached(stream, attach, subscription, end, hub).await;
        }
        Some(((number, _), _)) => hub.unsubscribe(number),
        None => {}
    }
}

async fn serve(mut stream: UnixStream, hub: Rc<Hub>) {
    let request = match frames::read(&mut stream).await {
        Ok(Some(frame)) if frame.kind == FrameKind::Request => {
            serde_json::from_slice(&frame.payload)
        }
        _ => return,
    };
    let served = match request {
        Ok(ControlRequest::Attach(attach)) => {
            let (subscription, end) = (hub.subscribe(), hub.end());
            let served = accept_request(&mut stream).await;
            if served.is_ok() {
                attached(stream, attach, subscription, end, hub).await;
            }
            served
        }
        Ok(ControlRequest::Wait) => {
            let end = hub.end();
            match accept_request(&mut stream).await {
                Ok(()) => send_exit(&mut stream, end.await).await,
                Err(error) => Err(error),
            }
        }
        Ok(ControlRequest::Agent) => agent_connection(stream, &hub).await,
        Ok(ControlRequest::Stop {
            signal,
            timeout,
            by_user,
        }) => {
            stop::stop(&hub, signal, timeout, by_user).await;
            accept_request(&mut stream).await
        }
        Ok(ControlRequest::Signal { signal, ends }) => {
            answer(&mut stream, stop::signal(&hub, signal, ends).await).await
        }
        Ok(ControlRequest::Pause(on)) => answer(&mut stream, stop::pause(&hub, on).await).await,
        Ok(ControlRequest::Limit(limits)) => answer(&mut stream, stop::limit(&hub, &limits)).await,
        Ok(ControlRequest::Networks) => answer(&mut stream, network::refresh(&hub).await).await,
        Ok(ControlRequest::Kill) => {
            stop::kill_machine(&hub).await;
            accept_request(&mut stream).await
        }
        Err(error) => {
            let message = format!("the request is not of this version of hull: {error}");
            let reply = ControlReply::Error { code: 125, message };
            frames::send(&mut stream, FrameKind::Response, &reply).await
        }
    };
    // A client that hung up has no one left to tell.
    drop(served);
}

async fn answer(stream: &mut UnixStream, done: Result<(), String>) -> io::Result<()> {
    match done {
        Ok(()) => accept_request(stream).await,
        Err(message) => {
            let reply = ControlReply::Error { code: 1, message };
            frames::send(stream, FrameKind::Response, &reply).await
        }
    }
}

async fn accept_request(stream: &mut UnixStream) -> io::Result<()> {
    let reply = ControlReply::Ok {
        warnings: Vec::new(),
        boot: None,
    };
    frames::send(stream, FrameKind::Response, &reply).await
}

async fn attached(
    stream: UnixStream,
    attach: Attach,
    (number, mut output): (u64, tokio::sync::mpsc::Receiver<super::hub::Chunk>),
    end: impl Future<Output = Option<Exit>>,
    hub: Rc<Hub>,
) {
    let (reader, mut writer) = stream.into_split();
    let input = read_input(reader, attach.stdin, hub.clone());
    let to_client = async {
        while let Some(chunk) = output.recv().await {
            frames::write(&mut writer, chunk.0, &chunk.1).await?;
        }
        send_exit(&mut writer, end.await).await
    };
    tokio::pin!(input, to_client);
    let mut listening = true;
    loop {
        tokio::select! {
            gone = &mut input, if listening => {
                listening = false;
                if gone {
                    break;
                }
            }
            _ = &mut to_client => break,
        }
    }
    hub.unsubscribe(number);
}

/// Carries standard input; true when the client hung up, false when it only stopped sending.
async fn read_input(mut reader: OwnedReadHalf, wanted: bool, hub: Rc<Hub>) -> bool {
    loop {
        let frame = match frames::read(&mut reader).await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(FrameError::Io(_)) => {
                if wanted && !hub.tty {
                    hub.feed(Input::Close).await;
                }
                return true;
            }
            Err(_) => return true,
        };
        let message = match frame.kind {
            FrameKind::Stdin if wanted => Input::Data(frame.payload),
            FrameKind::StdinClose if wanted => Input::Close,
            _ => continue,
        };
        // The first process no longer reads: keep listening for the client's end.
        hub.feed(message).await;
    }
}

async fn send_exit(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    exit: Option<Exit>,
) -> io::Result<()> {
    match exit {
        Some(exit) => frames::send(writer, FrameKind::Exit, &exit).await,
        None => Ok(()),
    }
}

async fn agent_connection(mut stream: UnixStream, hub: &Hub) -> io::Result<()> {
    let mut progress = hub.progress();
    // The agent listens once the container has been started.
    let started = progress.wait_for(|p| p.started.is_some()).await;
    drop(started);
    match hub.connect() {
        Ok(connection) => {
            accept_request(&mut stream).await?;
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            descriptors::send(&stream, &[connection.as_fd()])
        }
        Err(error) => {
            let message = format!("the guest cannot be reached: {error}");
            let reply = ControlReply::Error { code: 125, message };
            frames::send(&mut stream, FrameKind::Response, &reply).await
        }
    }
}
