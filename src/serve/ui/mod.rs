//! `hull ui`: one page for a browser on this machine, over the operations that the API has.
//!
//! It listens on the loopback address alone. Whoever asks must know the token in the page's
//! address (`guard`); what is asked for is a short list of things to look at, and terminals
//! (`terminal`). The page is a whole one that loads nothing else.

mod guard;
mod terminal;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::body::Body;
use super::reply::{self, Reply, with_header};
use super::request::Call;
use super::router::{self, no_such_page};
use super::state::{self, Shared, State};
use super::watch::Peer;
use super::{ServeError, bus};
use crate::page::{self, Script};
use crate::settings::Settings;
use crate::store::{Paths, Store};
use crate::{image, layers};
use guard::Guard;
use terminal::Terminals;

/// Connections at once; the next one waits.
const CONNECTIONS: usize = 128;
/// How long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts to take a connection where descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Debug)]
struct Ui {
    state: Shared,
    guard: Guard,
    terminals: Terminals,
}

/// Serves the page until a signal; `ready` hears its address.
pub fn run(
    paths: Paths,
    settings: Settings,
    port: u16,
    ready: impl FnOnce(&str),
) -> Result<(), ServeError> {
    let store = Store::open(&paths)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(state::THREADS)
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let state = Arc::new(State::new(paths, settings)?);
        bus::start(&state, store)?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let guard = Guard::new(listener.local_addr()?.port())?;
        ready(&guard.address());
        let terminals = Terminals::default();
        serve(
            listener,
            Arc::new(Ui {
                state,
                guard,
                terminals,
            }),
        )
        .await
    });
    runtime.shutdown_background();
    served
}

async fn serve(listener: TcpListener, ui: Arc<Ui>) -> Result<(), ServeError> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accept = async {
            let place = places
                .clone()
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((stream, place))
        };
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, place)) => {
                    if let Ok(peer) = Peer::new(&stream, place) {
                        tokio::spawn(converse(stream, peer, ui.clone()));
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        }
    }
}

async fn converse(stream: TcpStream, peer: Peer, ui: Arc<Ui>) {
    let service = service_fn(|request| answer(ui.clone(), request, peer.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // What is wrong with a connection concerns whoever is at its other end.
    let _ = connection.await;
}

async fn answer(
    ui: Arc<Ui>,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Infallible> {
    let reply = match ui.guard.check(&request) {
        Err(refused) => Err(refused),
        Ok(()) => match Call::new(request, peer) {
            Ok(call) => route(&ui, call).await,
            Err(error) => Err(error),
        },
    };
    let mut response = reply.unwrap_or_else(|error| reply::error(&error));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        response = with_header(response, name, value);
    }
    Ok(response)
}

async fn route(ui: &Arc<Ui>, mut call: Call) -> Reply {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (&call.method.clone(), path.as_slice()) {
        (&Method::GET, []) => Ok(whole_page()),
        // Nothing but looking: what changes something is not passed on.
        (
            &Method::GET,
            ["api", "docker", "images" | "containers", "json"]
            | ["api", "docker", "containers", _, "json" | "logs" | "stats"],
        ) => {
            call.path.drain(..2);
            router::route(ui.state.clone(), call).await
        }
        (&Method::GET, ["api", "images"]) => {
            let images = ui.state.work(|context| {
                let all = layers::outlines(context);
                all.map_err(super::error::ApiError::broken)
            });
            Ok(reply::json(&json!(images.await?)))
        }
        (&Method::GET, ["api", "layers", name]) => stack(ui, (*name).to_owned()).await,
        (&Method::GET, ["api", "reports"]) => {
            let reports = ui.state.work(|context| Ok(context.reports()?)).await?;
            Ok(reply::json(&json!(reports)))
        }
        (&Method::POST, ["api", "terminal", name]) => {
            ui.terminals.open(&ui.state, &call, name).await
        }
        (&Method::POST, ["api", "terminal", id, "input"]) => ui.terminals.input(id, call).await,
        _ => Err(no_such_page()),
    }
}

fn whole_page() -> Response<Body> {
    let text = page::page("hull", Script::Ui, &json!({}));
    reply::answer(
        hyper::StatusCode::OK,
        "text/html; charset=utf-8",
        Body::Whole(text.into()),
    )
}

async fn stack(ui: &Arc<Ui>, name: String) -> Reply {
    let stack = ui.state.slow_work(move |context| {
        let image = image::get(context, &name, None)?;
        let shown = layers::name_of(&image, &name);
        let open = layers::open_image(context, &shown, &image).map_err(anyhow::Error::from);
        Ok(open.map_err(super::error::ApiError::broken)?.stack)
    });
    let value = serde_json::to_value(stack.await?);
    Ok(reply::json(&value.unwrap_or_default()))
}
