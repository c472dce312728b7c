//! `ps`.

use serde_json::{Map, Value, json};

use crate::container::filter::{self, Filter};
use crate::container::inspect::inspect_value;
use crate::container::{Container, describe};
use crate::image;
use crate::network::ports::parse_exposed;
use crate::serve::error::ApiError;
use crate::serve::filters;
use crate::serve::reply::{Reply, json};
use crate::serve::request::Call;
use crate::serve::state::{Context, Shared};

/// `GET /containers/json`.
pub async fn list(state: Shared, call: Call) -> Reply {
    let query = call.query;
    let filters = filters::parse(query.get("filters"))?;
    let limit = query.number::<i64>("limit")?.filter(|limit| *limit > 0);
    let (all, size) = (query.flag("all"), query.flag("size"));
    let rows = state
        .work(move |context| {
            let filter = Filter::parse(context, &filters, filter::OF_PS)?;
            let any_state = all || limit.is_some() || filter.is_about_state();
            let most = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            let shown = context.containers()?.into_iter();
            let shown = shown
                .filter(|c| any_state || c.state.status.is_live())
                .filter(|c| filter.matches(c))
                .take(most);
            shown
                .map(|container| row(context, &container, size))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
    Ok(json(&Value::Array(rows)))
}

fn row(context: &Context, container: &Container, size: bool) -> Result<Value, ApiError> {
    let config = &container.config;
    let mut whole = inspect_value(context, container).map_err(ApiError::broken)?;
    let mut row = json!({
        "Id": container.id,
        "Names": [format!("/{}", container.name)],
        "Image": config.image,
        "ImageID": config.image_id,
        "Command": config.argv().join(" "),
        "Created": container.created_at.div_euclid(1_000_000_000),
        "Ports": ports(container),
        "Labels": config.labels,
        "State": container.state.status.as_str(),
        "Status": describe::status(container),
        "HostConfig": {"NetworkMode": whole["HostConfig"]["NetworkMode"].take()},
        "NetworkSettings": {"Networks": whole["NetworkSettings"]["Networks"].take()},
        "Mounts": whole["Mounts"].take(),
    });
    if size {
        let (own, all) = sizes(context, container)?;
        row["SizeRw"] = own.into();
        row["SizeRootFs"] = all.into();
    }
    Ok(row)
}

/// What a container wrote, and with the files of its image.
pub fn sizes(context: &Context, container: &Container) -> Result<(u64, u64), ApiError> {
    let own = context.container_size(container)?;
    let image = image::find(context, &container.config.image_id, None)?;
    Ok((own, own + image.map_or(0, |image| image.size)))
}

/// As docker: a container that does not run has no ports.
fn ports(container: &Container) -> Vec<Value> {
    if !container.state.status.is_live() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for bound in &container.state.ports {
        rows.push(json!({
            "IP": bound.host_ip.to_string(),
            "PrivatePort": bound.port,
            "PublicPort": bound.host_port,
            "Type": bound.protocol.to_string(),
        }));
    }
    let exposed = container.config.exposed_ports.iter();
    for (port, protocol) in exposed.flat_map(|spec| parse_exposed(spec).unwrap_or_default()) {
        let mut bound = container.state.ports.iter();
        if !bound.any(|b| (b.port, b.protocol) == (port, protocol)) {
            let mut row = Map::new();
            row.insert("PrivatePort".to_owned(), port.into());
            row.insert("Type".to_owned(), protocol.to_string().into());
            rows.push(Value::Object(row));
        }
    }
    rows
}
