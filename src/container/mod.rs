//! Containers: what they are, how one starts, what a running one can be asked.
//!
//! `record` and `state` are the data, `spec` turns them into what the guest is told,
//! `launch` starts a supervisor, `supervisor` is that process, `client` talks to it and
//! `guest` speaks the agent's protocol.

pub mod assets;
pub mod client;
pub mod commit;
pub mod control;
pub mod copy;
pub mod cpuset;
pub mod create;
pub mod describe;
mod descriptors;
pub mod detach;
pub mod files;
pub mod filter;
pub mod guest;
pub mod health;
pub mod inspect;
pub mod isolation;
pub mod launch;
pub mod lifecycle;
pub mod limits;
pub mod log_view;
pub mod logs;
pub mod members;
pub mod mount;
pub mod name;
pub mod network;
pub mod network_view;
pub mod options;
pub mod record;
pub mod restart;
pub mod spec;
pub mod standby;
pub mod state;
pub mod stats;
pub mod supervisor;
pub mod top;
pub mod update;
pub mod volume;
pub mod volume_options;
pub mod volume_view;

use crate::image::User;
use crate::image::digest::Digest;
use crate::store::{Store, StoreError};

pub use crate::id;
pub use record::{Config, Container, Emulation};
pub use state::{State, Status};

/// The containers made from an image.
pub fn users_of_image(store: &Store, image: &Digest) -> Result<Vec<User>, StoreError> {
    let containers = store.containers_of_image(image)?;
    let user = |container: Container| User {
        running: container.state.status.is_live(),
        container: container.id,
    };
    Ok(containers.into_iter().map(user).collect())
}
