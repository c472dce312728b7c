//! `stats`, in the form that docker's clients compute percentages from.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::container::record::now_ns;
use crate::container::stats::{self, Sample};
use crate::container::{Container, Status, lifecycle};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::reply::{Reply, answer, json};
use crate::serve::request::Call;
use crate::serve::state::Shared;
use crate::time::rfc3339;

/// Between two looks, docker's.
const INTERVAL: Duration = Duration::from_secs(1);

/// `GET /containers/ID/stats`.
pub async fn stats(state: Shared, call: Call, name: String) -> Reply {
    let stream = call.query.flag_or("stream", true);
    let once = call.query.flag("one-shot");
    let container = state
        .work(move |context| Ok(lifecycle::find(context, &name)?))
        .await?;
    let id = container.id.clone();
    if !stream {
        let before = match once {
            true => None,
            false => look(&state, &id).await?.1,
        };
        if before.is_some() {
            tokio::time::sleep(INTERVAL).await;
        }
        let (container, now) = look(&state, &id).await?;
        return Ok(json(&value(&container, before.as_ref(), now.as_ref())));
    }
    let (sender, body) = Body::stream();
    tokio::spawn(async move {
        let mut before = None;
        // Ends with the client or the container.
        while let Ok((container, now)) = look(&state, &id).await {
            let value = value(&container, before.as_ref(), now.as_ref());
            if sender.send_json(&value).await.is_err() {
                return;
            }
            before = now;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = sender.closed() => return,
            }
        }
    });
    Ok(answer(StatusCode::OK, "application/json", body))
}

async fn look(state: &Shared, id: &str) -> Result<(Container, Option<Sample>), ApiError> {
    let id = id.to_owned();
    state
        .work(move |context| {
            let container = lifecycle::find(context, &id)?;
            let runs = matches!(container.state.status, Status::Running | Status::Paused);
            // One that ends at this moment uses nothing.
            let sample = runs
                .then(|| stats::sample(context, &container).ok())
                .flatten();
            Ok((container, sample))
        })
        .await
}

fn value(container: &Container, before: Option<&Sample>, now: Option<&Sample>) -> Value {
    let zero = "0001-01-01T00:00:00Z";
    let cpus = container.config.cpus;
    let Some(now) = now else {
        return json!({
            "id": container.id,
            "name": format!("/{}", container.name),
            "read": zero,
            "preread": zero,
            "pids_stats": {},
            "blkio_stats": {},
            "cpu_stats": cpu(None, cpus),
            "precpu_stats": cpu(None, cpus),
            "memory_stats": {},
            "storage_stats": {},
            "num_procs": 0,
        });
    };
    let used = now.since(before, container);
    json!({
        "id": container.id,
        "name": format!("/{}", container.name),
        "read": rfc3339(now_ns()),
        "preread": zero,
        "pids_stats": {"current": used.pids, "limit": container.config.pids_limit.filter(|n| *n > 0)},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 254, "minor": 0, "op": "read", "value": used.read},
                {"major": 254, "minor": 0, "op": "write", "value": used.written},
            ],
        },
        "cpu_stats": cpu(Some(now), cpus),
        "precpu_stats": cpu(before, cpus),
        "memory_stats": {"usage": used.memory, "limit": used.memory_limit, "stats": {}},
        "networks": {"eth0": {
            "rx_bytes": used.received, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0,
            "tx_bytes": used.sent, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0,
        }},
        "storage_stats": {},
        "num_procs": 0,
    })
}

/// Processor time, and what time went by on all of the guest's processors.
fn cpu(sample: Option<&Sample>, cpus: u32) -> Value {
    let (used, passed) = sample.map_or((0, 0), |sample| {
        let passed = sample.time().saturating_mul(u64::from(cpus));
        (sample.cpu_ns(), passed)
    });
    let mut value = json!({
        "cpu_usage": {"total_usage": used, "usage_in_kernelmode": 0, "usage_in_usermode": used},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    });
    if sample.is_some() {
        value["system_cpu_usage"] = passed.into();
        value["online_cpus"] = cpus.into();
    }
    value
}
