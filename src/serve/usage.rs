//! `system/df`.

use serde_json::{Value, json};

use super::error::ApiError;
use super::images;
use super::reply::{Reply, json};
use super::request::Call;
use super::state::{Context, Shared};
use crate::container::{describe, volume_view};
use crate::image::Filter;
use crate::system::usage::{self, Usage};

/// `GET /system/df`.
pub async fn usage(state: Shared, call: Call) -> Reply {
    let types: Vec<String> = call.query.all("type").map(str::to_owned).collect();
    let value = state
        .slow_work(move |context| {
            let used = usage::measure(context)?;
            let wanted = |name: &str| types.is_empty() || types.iter().any(|kind| kind == name);
            let mut value = json!({"LayersSize": used.image_total.size});
            if wanted("image") {
                value["Images"] = of_images(context, &used)?.into();
            }
            if wanted("container") {
                value["Containers"] = of_containers(&used).into();
            }
            if wanted("volume") {
                value["Volumes"] = of_volumes(context, &used).into();
            }
            if wanted("build-cache") {
                value["BuildCache"] = json!([]);
            }
            Ok(value)
        })
        .await?;
    Ok(json(&value))
}

fn of_images(context: &Context, used: &Usage) -> Result<Vec<Value>, ApiError> {
    let every = Filter::default();
    let mut rows = Vec::new();
    for one in &used.images {
        if let Some(mut row) = images::row(context, &one.image, &every)? {
            row["Size"] = (one.shared + one.unique).into();
            row["SharedSize"] = one.shared.into();
            row["Containers"] = one.containers.into();
            rows.push(row);
        }
    }
    Ok(rows)
}

fn of_containers(used: &Usage) -> Vec<Value> {
    let row = |(container, size): &(crate::container::Container, u64)| {
        let config = &container.config;
        json!({
            "Id": container.id,
            "Names": [format!("/{}", container.name)],
            "Image": config.image,
            "ImageID": config.image_id,
            "Command": config.argv().join(" "),
            "Created": container.created_at.div_euclid(1_000_000_000),
            "Ports": [],
            "SizeRw": size,
            "Labels": config.labels,
            "State": container.state.status.as_str(),
            "Status": describe::status(container),
            "HostConfig": {},
            "NetworkSettings": null,
            "Mounts": config.binds.iter().filter(|b| b.volume.is_some()).map(|bind| json!({
                "Type": "volume",
                "Name": bind.volume,
                "Destination": bind.target,
            })).collect::<Vec<_>>(),
        })
    };
    used.containers.iter().map(row).collect()
}

fn of_volumes(context: &Context, used: &Usage) -> Vec<Value> {
    let row = |(volume, size, links): &(crate::store::VolumeRecord, u64, usize)| {
        let mut value = volume_view::value(context, volume);
        value["UsageData"] = json!({"Size": size, "RefCount": links});
        value
    };
    used.volumes.iter().map(row).collect()
}
