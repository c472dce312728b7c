//! Containers: everything under `/containers`.

mod archive;
mod asked;
pub mod attach;
mod change;
pub mod connect;
mod create;
mod list;
mod logs;
mod look;
pub mod pending;
mod stats;
mod wait;

use hyper::Method;

use super::exec;
use super::reply::Reply;
use super::request::Call;
use super::router;
use super::state::Shared;

/// Answers for `/containers/…`.
pub async fn route(state: Shared, call: Call, rest: &[&str]) -> Reply {
    let method = call.method.clone();
    match (&method, rest) {
        (&Method::GET, ["json"]) => list::list(state, call).await,
        (&Method::POST, ["create"]) => create::create(state, call).await,
        (&Method::POST, ["prune"]) => change::prune(state, call).await,
        (&Method::DELETE, [name]) => change::remove(state, call, name.to_string()).await,
        (_, [name, verb]) => route_one(state, call, name.to_string(), verb).await,
        (&Method::GET, [name, "attach", "ws"]) => {
            attach::attach_socket(state, call, name.to_string()).await
        }
        _ => Err(router::no_such_page()),
    }
}

async fn route_one(state: Shared, call: Call, name: String, verb: &str) -> Reply {
    let method = call.method.clone();
    match (&method, verb) {
        (&Method::GET, "json") => look::inspect(state, call, name).await,
        (&Method::GET, "top") => look::top(state, call, name).await,
        (&Method::GET, "changes") => look::changes(state, name).await,
        (&Method::GET, "export") => look::export(state, name).await,
        (&Method::GET, "stats") => stats::stats(state, call, name).await,
        (&Method::GET, "logs") => logs::logs(state, call, name).await,
        (&Method::POST, "start") => change::start(state, name).await,
        (&Method::POST, "stop") => change::stop(state, call, name).await,
        (&Method::POST, "restart") => change::restart(state, call, name).await,
        (&Method::POST, "kill") => change::kill(state, call, name).await,
        (&Method::POST, "pause") => change::pause(state, name, true).await,
        (&Method::POST, "unpause") => change::pause(state, name, false).await,
        (&Method::POST, "rename") => change::rename(state, call, name).await,
        (&Method::POST, "update") => change::update(state, call, name).await,
        (&Method::POST, "resize") => change::resize(state, call, name).await,
        (&Method::POST, "attach") => attach::attach(state, call, name).await,
        (&Method::POST, "wait") => wait::wait(state, call, name).await,
        (&Method::POST, "exec") => exec::create(state, call, name).await,
        (&Method::HEAD, "archive") => archive::head(state, call, name).await,
        (&Method::GET, "archive") => archive::get(state, call, name).await,
        (&Method::PUT, "archive") => archive::put(state, call, name).await,
        _ => Err(router::no_such_page()),
    }
}
