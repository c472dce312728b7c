//! What is done to containers: start, stop, remove and the rest.

use anyhow::Context as _;
use guest_agent::protocol::{Request, Resize, WindowSize};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::asked::RestartPolicy;
use super::attach::{MAIN, in_tokio};
use crate::container::control::Attach;
use crate::container::cpuset;
use crate::container::filter::{self, Filter};
use crate::container::launch::{self, LaunchError, RestartError};
use crate::container::lifecycle::LifecycleError;
use crate::container::limits::Processors;
use crate::container::update::Update;
use crate::container::{client, lifecycle, members, name as names, update as updates};
use crate::serve::error::ApiError;
use crate::serve::filters;
use crate::serve::relay;
use crate::serve::reply::{Reply, empty, json, with_status};
use crate::serve::request::{Call, Query};
use crate::serve::state::Shared;
use crate::system::prune as pruning;

/// `POST /containers/ID/start`.
pub async fn start(state: Shared, name: String) -> Reply {
    let started = state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            if container.state.status.is_live() {
                return Ok(None);
            }
            let waiting = context.state().pending.claim(&container.id);
            let attach = Attach {
                stdin: waiting.iter().any(|client| client.stdin),
                output: !waiting.is_empty(),
                ..Attach::default()
            };
            match launch::start(context, &container, attach, None) {
                Ok(started) => Ok(Some((container, started, waiting))),
                Err(LaunchError::AlreadyRunning(_)) => Ok(None),
                Err(error) => {
                    if container.config.auto_remove {
                        // Its supervisor has removed it unless it never got that far.
                        let _ = lifecycle::remove(context, &container, true, true);
                    }
                    Err(error.into())
                }
            }
        })
        .await?;
    let Some((container, started, waiting)) = started else {
        return Ok(with_status(StatusCode::NOT_MODIFIED));
    };
    if !waiting.is_empty() {
        let feeds = relay::start(in_tokio(started.stream)?, waiting.len(), None);
        for (client, feed) in waiting.into_iter().zip(feeds) {
            // One that left meanwhile has nobody to receive.
            let _ = client.feed.send(feed);
        }
    }
    // Nobody may be waiting.
    let _ = state.starts.send(container.id);
    Ok(empty())
}

/// Seconds, and the signal, of `stop` and `restart`.
fn ending(query: &Query) -> Result<(Option<String>, Option<i64>), ApiError> {
    Ok((query.get("signal").map(str::to_owned), query.number("t")?))
}

/// `POST /containers/ID/stop`.
pub async fn stop(state: Shared, call: Call, name: String) -> Reply {
    let (signal, timeout) = ending(&call.query)?;
    let ran = state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            let live = container.state.status.is_live();
            lifecycle::stop(context, &container, signal.as_deref(), timeout, true)?;
            Ok(live)
        })
        .await?;
    Ok(match ran {
        true => empty(),
        false => with_status(StatusCode::NOT_MODIFIED),
    })
}

/// `POST /containers/ID/restart`.
pub async fn restart(state: Shared, call: Call, name: String) -> Reply {
    let (signal, timeout) = ending(&call.query)?;
    let id = state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            match launch::restart(context, &container, signal.as_deref(), timeout) {
                Ok(()) => Ok(container.id),
                Err(RestartError::Stop(error)) => Err(error.into()),
                Err(RestartError::Start(error)) => Err(error.into()),
                Err(RestartError::Store(error)) => Err(error.into()),
                Err(error) => Err(ApiError::conflict(error.to_string())),
            }
        })
        .await?;
    let _ = state.starts.send(id);
    Ok(empty())
}

/// `POST /containers/ID/kill`.
pub async fn kill(state: Shared, call: Call, name: String) -> Reply {
    let signal = lifecycle::signal_number(call.query.get("signal").unwrap_or("KILL"))?;
    state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            lifecycle::must_run(&container).or_else(|error| match error {
                // Its end can be asked for between two runs.
                LifecycleError::Restarting(_) => Ok(()),
                error => Err(error),
            })?;
            Ok(lifecycle::kill(context, &container, signal)?)
        })
        .await?;
    Ok(empty())
}

/// `POST /containers/ID/pause` and `unpause`.
pub async fn pause(state: Shared, name: String, on: bool) -> Reply {
    state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            Ok(lifecycle::pause(context, &container, on)?)
        })
        .await?;
    Ok(empty())
}

/// `POST /containers/ID/rename`.
pub async fn rename(state: Shared, call: Call, name: String) -> Reply {
    let wanted = call.query.get("name").unwrap_or_default();
    let wanted = wanted.trim_start_matches('/').to_owned();
    state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            let wanted = names::validate(&wanted).map_err(|e| ApiError::bad(e.to_string()))?;
            if wanted == container.name {
                let message = "renaming a container with the same name as its current name";
                return Err(ApiError::bad(message));
            }
            let renamed = members::rename(context, &container, &wanted);
            if !renamed.map_err(ApiError::broken)? {
                let message = format!("the container name {wanted:?} is already in use");
                return Err(ApiError::conflict(message));
            }
            Ok(())
        })
        .await?;
    Ok(empty())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Changes {
    memory: Option<i64>,
    nano_cpus: Option<i64>,
    cpu_period: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_shares: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    pids_limit: Option<i64>,
    restart_policy: Option<RestartPolicy>,
}

/// `POST /containers/ID/update`.
pub async fn update(state: Shared, mut call: Call, name: String) -> Reply {
    let asked: Changes = call.json().await?;
    let number = |asked: Option<i64>| asked.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let text = |asked: Option<String>| asked.filter(|text| !text.is_empty());
    let processors = Processors {
        billionths: number(asked.nano_cpus),
        period: number(asked.cpu_period),
        quota: number(asked.cpu_quota),
        shares: number(asked.cpu_shares),
        memory_nodes: text(asked.cpuset_mems),
    };
    processors.check()?;
    let cpuset = text(asked.cpuset_cpus);
    if let Some(list) = &cpuset {
        cpuset::check(list).context("CpusetCpus")?;
    }
    let policy = asked.restart_policy.filter(|policy| policy.name.is_some());
    let policy = policy.filter(|policy| policy.name.as_deref() != Some(""));
    let restart = policy.map(|policy| {
        let name = policy.name.unwrap_or_default();
        let text = match policy.maximum_retry_count.unwrap_or(0) {
            0 => name,
            count => format!("{name}:{count}"),
        };
        text.parse().context("the restart policy")
    });
    let changes = Update {
        memory: asked
            .memory
            .filter(|bytes| *bytes > 0)
            .map(i64::unsigned_abs),
        processors,
        cpuset,
        pids_limit: asked.pids_limit.filter(|limit| *limit != 0),
        restart: restart.transpose()?,
    };
    let warnings = state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            Ok(updates::update(context, &container, &changes)?)
        })
        .await?;
    Ok(json(&json!({"Warnings": warnings})))
}

/// The size of a terminal.
pub fn window(query: &Query) -> Result<WindowSize, ApiError> {
    let rows = query.number("h")?.unwrap_or(0);
    let columns = query.number("w")?.unwrap_or(0);
    Ok(WindowSize { rows, columns })
}

/// `POST /containers/ID/resize`.
pub async fn resize(state: Shared, call: Call, name: String) -> Reply {
    let size = window(&call.query)?;
    state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            lifecycle::must_run(&container)?;
            let resize = Resize {
                process: MAIN.to_owned(),
                size,
            };
            client::ask_agent(context, &container, Request::Resize(resize))?;
            Ok(())
        })
        .await?;
    Ok(with_status(StatusCode::OK))
}

/// `DELETE /containers/ID`.
pub async fn remove(state: Shared, call: Call, name: String) -> Reply {
    let (force, volumes) = (call.query.flag("force"), call.query.flag("v"));
    if call.query.flag("link") {
        return Err(ApiError::not_there("removing a link"));
    }
    state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            Ok(lifecycle::remove(context, &container, force, volumes)?)
        })
        .await?;
    Ok(empty())
}

/// `POST /containers/prune`.
pub async fn prune(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let pruned = state
        .slow_work(move |context| {
            let filter = Filter::parse(context, &filters, filter::OF_PRUNE)?;
            Ok(pruning::containers(context, &filter)?)
        })
        .await?;
    Ok(json(&json!({
        "ContainersDeleted": pruned.removed,
        "SpaceReclaimed": pruned.freed,
    })))
}
