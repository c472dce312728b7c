//! Why a container does not start.

use std::io;
use std::path::PathBuf;

use crate::arch::dispatch::DispatchError;
use crate::arch::emulators::EmulatorError;
use crate::arch::platform::PlatformError;
use crate::container::assets::AssetError;
use crate::container::control::ControlError;
use crate::container::lifecycle::LifecycleError;
use crate::container::network::NetworkError;
use crate::container::spec::SpecError;
use crate::image::ImageError;
use crate::store::{DiskError, StoreError};

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It runs already.
    #[error("container {0} is already running")]
    AlreadyRunning(String),
    /// Its previous run does not come to an end.
    #[error("container {0} is still ending its previous run, try again or use rm -f")]
    StillEnding(String),
    /// It was removed meanwhile.
    #[error("container {0} was removed")]
    Gone(String),
    /// It is being removed.
    #[error("container {0} is marked for removal and cannot be started")]
    Dead(String),
    /// Its image was removed by force.
    #[error("the image of container {name} ({image}) is gone, pull it again")]
    NoImage {
        /// The container.
        name: String,
        /// The image's id.
        image: String,
    },
    /// The engine in the configuration is none.
    #[error(transparent)]
    Engine(#[from] vmm::UnknownEngine),
    /// Nowhere to run it.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The recorded platform is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Kernel, agent or emulators are missing.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The emulators' disk cannot be made.
    #[error(transparent)]
    Emulators(#[from] EmulatorError),
    /// The image's layers cannot be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The writable layer cannot be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The specification cannot be made.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its networks cannot be put together.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A host directory of `-v` cannot be used.
    #[error("cannot use the host directory {path} as a volume: {source}")]
    Volume {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor cannot be started.
    #[error("starting the container's supervisor: {0}")]
    Spawn(#[source] io::Error),
    /// The supervisor did not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest or its agent refused; the supervisor recorded it.
    #[error("{message}")]
    Refused {
        /// Docker's exit code for it.
        code: i32,
        /// One sentence.
        message: String,
    },
}

impl LaunchError {
    /// Docker's exit code for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Refused { code, .. } => *code,
            _ => 125,
        }
    }
}

/// Why a container was not started again.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// It goes when it stops.
    #[error("container {0} was started with --rm and is removed when it stops, run it anew")]
    AutoRemove(String),
    /// It does not stop.
    #[error(transparent)]
    Stop(#[from] LifecycleError),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] LaunchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
