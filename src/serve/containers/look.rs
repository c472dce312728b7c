//! What a container is, does and changed.

use guest_agent::protocol::{Change, ChangeKind, Task};
use serde_json::{Value, json};

use super::list::sizes;
use crate::container::files::Files;
use crate::container::inspect::inspect_value;
use crate::container::{lifecycle, top};
use crate::events::Note;
use crate::serve::error::ApiError;
use crate::serve::reply::{Reply, json, written};
use crate::serve::request::Call;
use crate::serve::state::Shared;

/// `GET /containers/ID/json`.
pub async fn inspect(state: Shared, call: Call, name: String) -> Reply {
    let size = call.query.flag("size");
    let execs = state.clone();
    let value = state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            let mut value = inspect_value(context, &container).map_err(ApiError::broken)?;
            if size {
                let (own, all) = sizes(context, &container)?;
                value["SizeRw"] = own.into();
                value["SizeRootFs"] = all.into();
            }
            value["ExecIDs"] = execs.execs.of_container(&container.id);
            Ok(value)
        })
        .await?;
    Ok(json(&value))
}

/// `GET /containers/ID/top`.
pub async fn top(state: Shared, call: Call, name: String) -> Reply {
    let options: Vec<String> = call
        .query
        .get("ps_args")
        .map(str::to_owned)
        .into_iter()
        .collect();
    let value = state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            lifecycle::must_run(&container)?;
            let processes = Files::open(context, &container)?.values(Task::Processes)?;
            let table = top::table(&processes, &options, container.config.memory);
            let table = table.map_err(|error| ApiError::bad(error.to_string()))?;
            context.note_container(&container.id, &[Note::new("top")])?;
            Ok(json!({"Titles": table.titles, "Processes": table.rows}))
        })
        .await?;
    Ok(json(&value))
}

/// `GET /containers/ID/changes`.
pub async fn changes(state: Shared, name: String) -> Reply {
    let value = state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            let changes: Vec<Change> = Files::open(context, &container)?.values(Task::Changes)?;
            let row = |change: Change| {
                let kind = match change.kind {
                    ChangeKind::Modified => 0,
                    ChangeKind::Added => 1,
                    ChangeKind::Deleted => 2,
                };
                json!({"Path": change.path, "Kind": kind})
            };
            Ok(changes.into_iter().map(row).collect::<Vec<Value>>())
        })
        .await?;
    Ok(json(&Value::Array(value)))
}

/// `GET /containers/ID/export`.
pub async fn export(state: Shared, name: String) -> Reply {
    let container = state
        .work(move |context| Ok(lifecycle::find(context, &name)?))
        .await?;
    let context = state.for_slow_work().await?;
    Ok(written("application/x-tar", move |out| {
        context.note_container(&container.id, &[Note::new("export")])?;
        Files::open(&context, &container)?.copy_to(Task::Export, out)?;
        Ok(())
    }))
}
