//! The same image and program as a plain process, in a namespace container and in microVMs, side
//! by side: what each sees of the host, what of the host it can reach, what it costs.
//!
//! `place` is where a program can run, `probe` what runs there, `timeline` takes its start
//! apart, `run` does it all over and over, interleaved, `noise` says how quiet the machine was
//! meanwhile, and `report` is what comes out. Every number is measured in that run.

mod bundle;
mod memory;
mod noise;
mod place;
mod prepare;
mod probe;
mod report;
mod run;
mod timeline;

use std::io;
use std::path::PathBuf;

use crate::container::assets::AssetError;
use crate::image::ImageError;
use crate::layers::LayersError;
use crate::store::StoreError;

pub use noise::Noise;
pub use place::{Place, other, places};
pub use report::{Column, Figure, Report, Sight, Stage};
pub use run::{Options, compare};

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The program that is run everywhere is missing.
    #[error("the probe {0} is not built, run `make build` in hull's source")]
    NoProbe(String),
    /// Parts of a guest are missing.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image cannot be had or made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image's files cannot be unpacked.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The host failed.
    #[error("{what} {path}: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or program.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// No column of that name.
    #[error("there is no column {0:?}; there are {1}")]
    NoColumn(String, String),
}

impl CompareError {
    fn io(what: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        let path = path.into();
        Self::Io { what, path, cause }
    }
}

#[cfg(test)]
mod tests;
