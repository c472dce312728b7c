//! `commit`: what a container changed, as one more layer on its image.

use guest_agent::protocol::{Layering, Request, Task};
use serde_json::{Map, Value, json};

use super::client::{self, ClientError};
use super::files::{Files, FilesError};
use super::record::{Config, Container};
use super::state::Status;
use crate::image::{self, Commit, Image, ImageError};
use crate::settings::Settings;
use crate::store::Store;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The image that the container is made from was removed by force.
    #[error("the image of container {0} is gone, so nothing can be put on top of it")]
    NoImage(String),
    /// The container's files cannot be had.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The container cannot be stopped for the moment.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The image cannot be made.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Makes the image. With `pause` nothing in a running container runs meanwhile.
pub fn commit(
    store: &Store,
    settings: &Settings,
    container: &Container,
    mut commit: Commit,
    pause: bool,
) -> Result<Image, CommitError> {
    let base = image::find(store, &container.config.image_id, None)?
        .ok_or_else(|| CommitError::NoImage(container.name.clone()))?;
    commit.config = image_config(&container.config, &base);
    commit.created_by = container.config.argv().join(" ");
    let frozen = pause && container.state.status == Status::Running;
    if frozen {
        client::ask_agent(store, container, Request::Freeze(true))?;
    }
    let made = make(store, settings, container, &base, &commit);
    if frozen {
        client::ask_agent(store, container, Request::Freeze(false))?;
    }
    made
}

fn make(
    store: &Store,
    settings: &Settings,
    container: &Container,
    base: &Image,
    commit: &Commit,
) -> Result<Image, CommitError> {
    let files = Files::open(store, container)?;
    let mut layer = files.read(Task::Layer(Layering::default()))?;
    let check = |layer: &mut super::files::Output| {
        layer
            .finish()
            .map_err(|error| ImageError::Usage(error.to_string()))
    };
    let image = image::commit(store, settings, base, &mut layer, check, commit)?;
    files.close()?;
    Ok(image)
}

/// What an image made of the container runs with.
fn image_config(config: &Config, base: &Image) -> Map<String, Value> {
    let ports: Map<String, Value> = config
        .exposed_ports
        .iter()
        .map(|port| (port.clone(), json!({})))
        .collect();
    let anonymous = config.binds.iter().filter(|bind| bind.anonymous);
    let known = base.config.config().as_ref();
    let known = known.and_then(|known| known.volumes().clone());
    let volumes: Map<String, Value> = known
        .unwrap_or_default()
        .into_iter()
        .chain(anonymous.map(|bind| bind.target.clone()))
        .map(|target| (target, json!({})))
        .collect();
    let mut fields = Map::new();
    for (key, value, is_empty) in [
        ("Env", json!(config.env), config.env.is_empty()),
        ("Cmd", json!(config.cmd), config.cmd.is_empty()),
        (
            "Entrypoint",
            json!(config.entrypoint),
            config.entrypoint.is_empty(),
        ),
        (
            "WorkingDir",
            json!(config.working_dir),
            config.working_dir == "/",
        ),
        ("User", json!(config.user), config.user.is_empty()),
        ("Labels", json!(config.labels), config.labels.is_empty()),
        ("ExposedPorts", json!(ports), ports.is_empty()),
        ("Volumes", json!(volumes), volumes.is_empty()),
        ("Healthcheck", json!(config.health), config.health.is_none()),
        (
            "StopSignal",
            json!(config.stop_signal),
            config.stop_signal.is_none(),
        ),
    ] {
        if !is_empty {
            fields.insert(key.to_owned(), value);
        }
    }
    fields
}
