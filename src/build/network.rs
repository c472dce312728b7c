//! A stage's guest on the default network.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use guest_agent::protocol::{Interface, ProvidedFile};
use vmm::{Machine, NetworkPlace};

use crate::container::network::{self, LostLinks, NetworkError, NetworkPlan};
use crate::container::record::{Config, Container};
use crate::container::state::State;
use crate::network::host;
use crate::network::link::{self, Link, LinkError};
use crate::network::record::{Attachment, DEFAULT};
use crate::network::wire::LinkRequest;
use crate::store::{Store, StoreError};

/// Why a stage has no network.
#[derive(Debug, thiserror::Error)]
pub enum NoNetwork {
    /// It cannot be put together.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No address for it.
    #[error("{0}")]
    Connect(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Connecting failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The machine did not take it.
    #[error("connecting the guest: {0}")]
    Machine(#[from] io::Error),
}

/// What a guest has of networks; given back when dropped.
#[derive(Debug)]
pub struct Networked<'a> {
    store: &'a Store,
    /// Stands for a container in the tables of addresses.
    id: String,
    /// For the guest.
    pub interfaces: Vec<Interface>,
    /// `/etc/hosts` and its like.
    pub files: Vec<ProvidedFile>,
    linking: Option<JoinHandle<Result<Link, LinkError>>>,
    /// Its end says that the guest is gone.
    link: Option<UnixStream>,
}

impl<'a> Networked<'a> {
    /// Chooses addresses, unless there is to be `none`, and begins to connect. `id` is nobody
    /// else's; a holder of addresses that was killed is known by its name ([`Store::open`]).
    pub fn begin(
        store: &'a Store,
        config: &Config,
        id: String,
        none: bool,
    ) -> Result<Self, NoNetwork> {
        let mut networked = Self {
            store,
            id,
            interfaces: Vec::new(),
            files: Vec::new(),
            linking: None,
            link: None,
        };
        if !none {
            let asked = Attachment {
                network: DEFAULT.to_owned(),
                ..Attachment::default()
            };
            let connected = store.connect_container(&networked.id, "build", &asked)?;
            connected.map_err(|error| NoNetwork::Connect(error.to_string()))?;
        }
        // Its tables know containers only.
        let container = Container {
            id: networked.id.clone(),
            name: "build".to_owned(),
            created_at: 0,
            config: config.clone(),
            state: State::default(),
        };
        let connected = network::connected(store, &container, LostLinks::Refused)?;
        let NetworkPlan {
            mut request,
            members,
            ..
        } = connected.plan;
        networked.files = connected.files;
        if !members.is_empty() {
            let paths = store.paths().clone();
            for member in members {
                request.interfaces.push(member.interface);
                networked.interfaces.push(member.guest);
            }
            let link = move || {
                request.host_addresses = host::addresses()?;
                establish(&paths, &request)
            };
            let thread = std::thread::Builder::new().name("network".to_owned());
            networked.linking = Some(thread.spawn(link)?);
        }
        Ok(networked)
    }

    /// Hardware addresses, for the machine.
    pub fn macs(&self) -> Vec<[u8; 6]> {
        self.interfaces.iter().map(|one| one.mac).collect()
    }

    /// Gives the machine its ends.
    pub fn connect(&mut self, machine: &Machine) -> Result<(), NoNetwork> {
        let Some(linking) = self.linking.take() else {
            return Ok(());
        };
        let link = match linking.join() {
            Ok(link) => link?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        for (number, tap) in link.taps.iter().enumerate() {
            machine.connect_network(NetworkPlace::interface(number), Some(tap.as_fd()))?;
        }
        self.link = Some(link.stream);
        Ok(())
    }
}

fn establish(paths: &crate::store::Paths, request: &LinkRequest) -> Result<Link, LinkError> {
    link::establish(paths, request, &[])
}

impl Drop for Networked<'_> {
    fn drop(&mut self) {
        // First what uses the addresses, then the addresses.
        self.link = None;
        // Should this fail, they stay taken until somebody finds the guest's disk.
        let _ = self.store.disconnect_all(&self.id);
    }
}
