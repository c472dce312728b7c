//! Who is in which network under which name, after a container was made.

use guest_agent::protocol::{Amendment, ProvidedFile, Task};

use super::client::{self, ClientError};
use super::control::{ControlError, ControlRequest};
use super::files::{Files, FilesError};
use super::network::{self, Connected, LostLinks, NetworkError};
use super::record::Container;
use crate::network::record::{Attachment, ConnectError};
use crate::store::{Store, StoreError};

/// Why a container's networks stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// It has none.
    #[error("container {0} was made without networks, and cannot be connected to one")]
    Without(String),
    /// Its networks cannot be put together.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The running container did not take it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The rest is done.
    #[error(
        "the networks of {container} are changed, but not its /etc/hosts and /etc/resolv.conf: {error}"
    )]
    Files {
        /// The container.
        container: String,
        /// Why not.
        error: FilesError,
    },
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

/// Connects a container to one more network, at once when it runs.
pub fn connect(
    store: &Store,
    container: &Container,
    asked: &Attachment,
) -> Result<(), MemberError> {
    if container.config.network.is_none() {
        return Err(MemberError::Without(container.name.clone()));
    }
    let before = told(store, container)?;
    let endpoint = store.connect_container(&container.id, &container.name, asked)??;
    let settled = settle(store, container, before);
    if let Err(MemberError::Client(_)) = &settled {
        // Neither here nor there would be worse than not at all.
        store.disconnect_container(&container.id, &endpoint.network)?;
        let _ = ask(store, container);
    }
    settled
}

/// Takes a container out of a network, at once when it runs.
pub fn disconnect(store: &Store, container: &Container, network: &str) -> Result<(), MemberError> {
    let network = store.find_network(network)??;
    let before = told(store, container)?;
    if store.disconnect_container(&container.id, &network.id)? {
        return settle(store, container, before);
    }
    Err(MemberError::NotIn {
        container: container.name.clone(),
        network: network.name,
    })
}

/// Makes other containers known to one by a name, at once when it runs.
pub fn link(
    store: &Store,
    container: &Container,
    links: &[(String, String)],
) -> Result<(), MemberError> {
    if links.is_empty() {
        return Ok(());
    }
    change_links(store, container, |own| {
        own.retain(|(_, alias)| !links.iter().any(|(_, new)| new == alias));
        own.extend(links.iter().cloned());
    })
}

/// Takes such a name away; false when there is none.
pub fn unlink(store: &Store, container: &Container, alias: &str) -> Result<bool, MemberError> {
    let is_it = |(_, own): &(String, String)| own == alias;
    if !container.config.network.links.iter().any(is_it) {
        return Ok(false);
    }
    change_links(store, container, |own| own.retain(|link| !is_it(link)))?;
    Ok(true)
}

fn change_links(
    store: &Store,
    container: &Container,
    change: impl Fn(&mut Vec<(String, String)>),
) -> Result<(), MemberError> {
    let mut changed = container.clone();
    change(&mut changed.config.network.links);
    if changed.state.status.is_live() {
        // Names that lead nowhere are refused before anything is changed.
        network::connected(store, &changed, LostLinks::Refused)?;
    }
    let before = told(store, container)?;
    store.update_config(&container.id, |config| change(&mut config.network.links))?;
    settle(store, &changed, before)
}

/// Gives a container another name, by which its networks find it at once; false when somebody
/// else has it.
pub fn rename(store: &Store, container: &Container, name: &str) -> Result<bool, MemberError> {
    let renamed = store.rename_container(&container.id, name)?;
    if renamed {
        ask(store, container)?;
    }
    Ok(renamed)
}

/// Lets a running container follow what the store has now.
fn settle(
    store: &Store,
    container: &Container,
    before: Option<Connected>,
) -> Result<(), MemberError> {
    ask(store, container)?;
    let (Some(before), Some(after)) = (before, told(store, container)?) else {
        return Ok(());
    };
    let amendments = before.files.iter().zip(&after.files).filter_map(amendment);
    let task = Task::Amend(amendments.collect());
    let amended = Files::open(store, container).and_then(|files| files.run(task));
    match amended {
        // It has ended meanwhile, and will start with new ones.
        Err(FilesError::Client(_)) | Ok(()) => Ok(()),
        Err(error) => Err(MemberError::Files {
            container: container.name.clone(),
            error,
        }),
    }
}

/// What the store has for a container that runs; nothing for one that will ask when it starts.
fn told(store: &Store, container: &Container) -> Result<Option<Connected>, NetworkError> {
    if !container.state.status.is_live() {
        return Ok(None);
    }
    network::connected(store, container, LostLinks::LeftOut).map(Some)
}

fn ask(store: &Store, container: &Container) -> Result<(), MemberError> {
    if !container.state.status.is_live() {
        return Ok(());
    }
    match client::ask(store, container, &ControlRequest::Networks) {
        Ok(_) | Err(ClientError::NotRunning(_) | ClientError::Control(ControlError::Gone)) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The lines that are different.
fn amendment((before, after): (&ProvidedFile, &ProvidedFile)) -> Option<Amendment> {
    let lines = |file: &ProvidedFile| -> Vec<String> {
        let text = String::from_utf8_lossy(&file.content);
        text.lines().map(str::to_owned).collect()
    };
    let (mut remove, mut add) = (lines(before), lines(after));
    remove.retain(|line| match add.iter().position(|other| other == line) {
        Some(place) => {
            add.remove(place);
            false
        }
        None => true,
    });
    let changed = !remove.is_empty() || !add.is_empty();
    changed.then(|| Amendment {
        path: after.path.clone(),
        remove,
        add,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_amended() {
        let file = |content: &str| ProvidedFile {
            path: "/etc/hosts".into(),
            content: content.into(),
            mode: 0o644,
            uid: 0,
            gid: 0,
        };
        let (before, after) = (file("a\nb\nb\nc\n"), file("a\nb\nc\nd\n"));
        let change = amendment((&before, &after)).unwrap();
        assert_eq!(
            (change.remove, change.add),
            (vec!["b".to_owned()], vec!["d".to_owned()])
        );
        assert_eq!(amendment((&before, &before)), None);
    }
}
