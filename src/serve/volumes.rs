//! Volumes: everything under `/volumes`.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters;
use super::reply::{Reply, empty, json, json_as};
use super::request::Call;
use super::router;
use super::state::{Context, Shared};
use crate::container::record::now_ns;
use crate::container::{id, volume, volume_options, volume_view};
use crate::store::{RemovedVolume, VolumeRecord};
use crate::system::prune::{self as pruning, VolumeFilter};

/// Answers for `/volumes…`.
pub async fn route(state: Shared, call: Call, rest: &[&str]) -> Reply {
    let method = call.method.clone();
    match (&method, rest) {
        (&Method::GET, []) => list(state, call).await,
        (&Method::POST, ["create"]) => create(state, call).await,
        (&Method::POST, ["prune"]) => prune(state, call).await,
        (&Method::GET, [name]) => inspect(state, name.to_string()).await,
        (&Method::DELETE, [name]) => remove(state, call, name.to_string()).await,
        _ => Err(router::no_such_page()),
    }
}

async fn list(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let rows = state
        .work(move |context| {
            let volumes = volume_view::list(context, &filters)?;
            let rows = volumes.iter().map(|v| volume_view::value(context, v));
            Ok(rows.collect::<Vec<_>>())
        })
        .await?;
    Ok(json(&json!({"Volumes": rows, "Warnings": null})))
}

fn find(context: &Context, name: &str) -> Result<Value, ApiError> {
    let volumes = context.volumes()?;
    let found = volumes.iter().find(|volume| volume.name == name);
    let found = found.map(|volume| volume_view::value(context, volume));
    found.ok_or_else(|| ApiError::missing(format!("get {name}: no such volume")))
}

async fn inspect(state: Shared, name: String) -> Reply {
    Ok(json(
        &state.work(move |context| find(context, &name)).await?,
    ))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

async fn create(state: Shared, mut call: Call) -> Reply {
    let asked: Asked = call.json().await?;
    let driver = asked.driver.unwrap_or_default();
    if !matches!(driver.as_str(), "" | "local") {
        let message = format!("volume driver {driver:?} is not there, use local");
        return Err(ApiError::bad(message));
    }
    let options = asked.driver_opts.unwrap_or_default();
    volume_options::read(&options).map_err(|error| ApiError::bad(error.to_string()))?;
    let given = asked.name.filter(|name| !name.is_empty());
    let labels = asked.labels.unwrap_or_default();
    let value = state
        .work(move |context| {
            let (name, anonymous) = match given {
                Some(name) => {
                    let name = volume::check_name(&name);
                    (
                        name.map_err(|error| ApiError::bad(error.to_string()))?,
                        false,
                    )
                }
                None => (id::generate()?, true),
            };
            context.create_volume(&VolumeRecord {
                name: name.clone(),
                created: now_ns(),
                anonymous,
                labels,
                options,
            })?;
            find(context, &name)
        })
        .await?;
    Ok(json_as(StatusCode::CREATED, &value))
}

async fn remove(state: Shared, call: Call, name: String) -> Reply {
    let force = call.query.flag("force");
    state
        .slow_work(move |context| match context.remove_volume(&name)? {
            RemovedVolume::Gone(_) => Ok(()),
            RemovedVolume::Missing if force => Ok(()),
            RemovedVolume::Missing => Err(ApiError::missing(format!("get {name}: no such volume"))),
            RemovedVolume::InUse(users) => Err(ApiError::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            ))),
        })
        .await?;
    Ok(empty())
}

async fn prune(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    // Older clients mean all volumes, newer ones only those without a name.
    let all = call.version < (1, 42);
    let pruned = state
        .slow_work(move |context| {
            let filter = VolumeFilter::parse(&filters, all);
            let filter = filter.map_err(|error| ApiError::bad(error.to_string()))?;
            Ok(pruning::volumes(context, &filter)?)
        })
        .await?;
    Ok(json(&json!({
        "VolumesDeleted": pruned.removed,
        "SpaceReclaimed": pruned.freed,
    })))
}
