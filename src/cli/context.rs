//! What every command that touches state works with.

use crate::container;
use crate::image::User;
use crate::image::digest::Digest;
use crate::settings::Settings;
use crate::store::{Paths, Store, StoreError};

/// The open store and the user's settings.
#[derive(Debug)]
pub struct Context {
    /// The state directory.
    pub store: Store,
    /// The settings.
    pub settings: Settings,
}

impl Context {
    /// Reads the settings and opens the store, telling on the standard error what it repaired.
    pub fn open() -> anyhow::Result<Self> {
        let settings = Settings::load()?;
        let store = Store::open(&Paths::from_env()?)?;
        for repair in store.repairs() {
            eprintln!("hull: {repair}");
        }
        Ok(Self { store, settings })
    }

    /// The containers made from an image.
    pub fn users_of_image(&self, image: &Digest) -> Result<Vec<User>, StoreError> {
        container::users_of_image(&self.store, image)
    }
}
