//! The container as the store has it; the supervisor is the only one who changes its state.

use std::cell::{Ref, RefCell};

use anyhow::Context as _;

use crate::container::record::Container;
use crate::container::state::{BadTransition, State};
use crate::events::Note;
use crate::store::{Found, Store};

/// A container and where it is kept.
#[derive(Debug)]
pub struct Record {
    store: Store,
    container: RefCell<Container>,
}

impl Record {
    /// The container that `store` has.
    pub fn new(store: Store, container: Container) -> Self {
        Self {
            store,
            container: RefCell::new(container),
        }
    }

    /// Where it is kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The container as it is now; not to be held across a wait.
    pub fn get(&self) -> Ref<'_, Container> {
        self.container.borrow()
    }

    /// Changes the state and writes it down with what happened; a change that fails changes
    /// nothing.
    pub fn change<T, E>(
        &self,
        notes: &[Note],
        step: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> anyhow::Result<T>
    where
        anyhow::Error: From<E>,
    {
        let mut state = self.get().state.clone();
        let value = step(&mut state)?;
        let id = self.get().id.clone();
        self.store
            .update_state(&id, &state, notes)
            .context("recording the container's state")?;
        self.container.borrow_mut().state = state;
        Ok(value)
    }

    /// Takes over what `rename` and `update` changed meanwhile.
    pub fn refresh(&self) -> anyhow::Result<()> {
        let id = self.get().id.clone();
        if let Found::One(now) = self.store.find_container(&id)? {
            let mut container = self.container.borrow_mut();
            container.name = now.name;
            container.config = now.config;
        }
        Ok(())
    }

    /// Removes the container, whose state becomes what `step` makes of it, and its anonymous volumes.
    pub fn remove(
        &self,
        notes: &[Note],
        step: impl FnOnce(&mut State) -> Result<(), BadTransition>,
    ) -> anyhow::Result<()> {
        let container = self.get();
        let mut state = container.state.clone();
        step(&mut state)?;
        state.die()?;
        self.store.delete_container(&container, &state, notes)?;
        self.store.remove_anonymous_volumes(&container.config)?;
        Ok(())
    }
}
