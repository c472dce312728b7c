//! Who is in which network, after a container was made.

use super::record::Container;
use crate::network::record::{Attachment, ConnectError};
use crate::store::{Store, StoreError};

/// Why a container's networks stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// A machine's interfaces are those of its start.
    #[error(
        "container {0} is running, and a machine has the interfaces that it was started with: stop it first"
    )]
    Running(String),
    /// It has none.
    #[error("container {0} was made without networks, and cannot be connected to one")]
    Without(String),
    /// It is not in that one.
    #[error("container {container} is not connected to network {network}")]
    NotIn {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// The network, or an address in it, cannot be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Connects a container that does not run to one more network.
pub fn connect(
    store: &Store,
    container: &Container,
    asked: &Attachment,
) -> Result<(), MemberError> {
    must_stand(container)?;
    if container.config.network.is_none() {
        return Err(MemberError::Without(container.name.clone()));
    }
    store.connect_container(&container.id, &container.name, asked)??;
    Ok(())
}

/// Takes a container that does not run out of a network.
pub fn disconnect(store: &Store, container: &Container, network: &str) -> Result<(), MemberError> {
    must_stand(container)?;
    let network = store.find_network(network)??;
    if store.disconnect_container(&container.id, &network.id)? {
        return Ok(());
    }
    Err(MemberError::NotIn {
        container: container.name.clone(),
        network: network.name,
    })
}

fn must_stand(container: &Container) -> Result<(), MemberError> {
    match container.state.status.is_live() {
        true => Err(MemberError::Running(container.name.clone())),
        false => Ok(()),
    }
}
