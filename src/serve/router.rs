//! Who answers which request.

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, SERVER};
use hyper::{Method, Request, Response};

use super::body::Body;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::request::Call;
use super::state::Shared;
use super::watch::Peer;
use super::{API_VERSION, build, containers, exec, images, networks, system, usage, volumes};

/// Answers a request; what goes wrong is an answer too.
pub async fn answer(
    state: Shared,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Infallible> {
    let reply = match Call::new(request, peer) {
        Ok(call) => route(state, call).await,
        Err(error) => Err(error),
    };
    let mut response = reply.unwrap_or_else(|error| reply::error(&error));
    let headers = response.headers_mut();
    if let Ok(version) = HeaderValue::from_str(&system::version_text(API_VERSION)) {
        headers.insert("api-version", version);
    }
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    let server = concat!("hull/", env!("CARGO_PKG_VERSION"), " (linux)");
    headers.insert(SERVER, HeaderValue::from_static(server));
    Ok(response)
}

/// Answers a request by its path.
pub async fn route(state: Shared, call: Call) -> Reply {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let method = call.method.clone();
    match (&method, path.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => system::ping(),
        (&Method::GET, ["version"]) => system::version(),
        (&Method::GET, ["info"]) => system::info(state).await,
        (&Method::GET, ["events"]) => system::events(state, call).await,
        (_, ["containers", rest @ ..]) => containers::route(state, call, rest).await,
        (_, ["images", rest @ ..]) => images::route(state, call, rest).await,
        (&Method::POST, ["commit"]) => images::commit(state, call).await,
        (_, ["build", rest @ ..]) => build::route(state, call, rest).await,
        (_, ["networks", rest @ ..]) => networks::route(state, call, rest).await,
        (_, ["volumes", rest @ ..]) => volumes::route(state, call, rest).await,
        (&Method::GET, ["system", "df"]) => usage::usage(state, call).await,
        (&Method::POST, ["auth"]) => system::auth(state, call).await,
        (_, ["exec", rest @ ..]) => exec::route(state, call, rest).await,
        (
            _,
            [
                "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs",
                ..,
            ],
        ) => Err(ApiError::new(
            hyper::StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. hull has no swarms.",
        )),
        (&Method::GET, ["plugins"]) => Ok(reply::json(&serde_json::json!([]))),
        (_, ["plugins", name, ..]) => Err(ApiError::missing(format!("plugin {name:?} not found"))),
        (_, ["session" | "grpc"]) => Err(ApiError::not_there(
            "BuildKit's protocol (make a builder of buildx's docker-container driver, set DOCKER_BUILDKIT=0, or use hull build)",
        )),
        _ => Err(no_such_page()),
    }
}

/// There is nothing at that path, or not for that method.
pub fn no_such_page() -> ApiError {
    ApiError::missing("page not found")
}
