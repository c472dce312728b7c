//! What all connections share: open stores, threads that may wait, who waits for what.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::bus::Bus;
use super::containers::pending::Pending;
use super::error::ApiError;
use super::exec::Execs;
use super::watch::Watcher;
use crate::settings::Settings;
use crate::store::{Paths, Store, StoreError};

/// Operations at once that end by themselves, soon.
const QUICK: usize = 64;
/// Operations at once that go on as long as a client or a registry takes.
const SLOW: usize = 192;
/// Threads for both.
pub const THREADS: usize = QUICK + SLOW + 16;
/// Open stores that are kept while nobody needs them.
const KEPT: usize = 8;
/// Starts that a waiter may be behind.
const STARTS: usize = 1024;

/// Shared by all connections.
pub type Shared = Arc<State>;

/// See [`Shared`].
#[derive(Debug)]
pub struct State {
    /// The state directory.
    pub paths: Paths,
    /// The user's settings.
    pub settings: Settings,
    /// What happens.
    pub bus: Bus,
    /// Changes of directories.
    pub watcher: Watcher,
    /// Clients that are attached to containers which do not run yet.
    pub pending: Pending,
    /// Processes of `exec`.
    pub execs: Execs,
    /// Ids of containers that were started here, sooner than the journal says it.
    pub starts: broadcast::Sender<String>,
    stores: Mutex<Vec<Arc<Store>>>,
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// An open store and the settings, lent to one operation.
#[derive(Debug)]
pub struct Context {
    state: Shared,
    store: Arc<Store>,
    _permit: OwnedSemaphorePermit,
}

impl Context {
    /// The user's settings.
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// What everybody shares.
    pub fn state(&self) -> &Shared {
        &self.state
    }
}

/// The store.
impl Deref for Context {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut stores = lock(&self.state.stores);
        if stores.len() < KEPT {
            stores.push(self.store.clone());
        }
    }
}

impl State {
    /// The beginning.
    pub fn new(paths: Paths, settings: Settings) -> std::io::Result<Self> {
        Ok(Self {
            paths,
            settings,
            bus: Bus::new(),
            watcher: Watcher::new()?,
            pending: Pending::default(),
            execs: Execs::default(),
            starts: broadcast::Sender::new(STARTS),
            stores: Mutex::default(),
            quick: Arc::new(Semaphore::new(QUICK)),
            slow: Arc::new(Semaphore::new(SLOW)),
        })
    }

    /// Carries out an operation that ends soon, in a thread that may wait.
    pub async fn work<T, F>(self: &Arc<Self>, act: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Context) -> Result<T, ApiError> + Send + 'static,
    {
        let context = self.lend(&self.quick).await?;
        finish(tokio::task::spawn_blocking(move || act(&context))).await
    }

    /// Carries out an operation that may take as long as a client, a guest or a registry does.
    pub async fn slow_work<T, F>(self: &Arc<Self>, act: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Context) -> Result<T, ApiError> + Send + 'static,
    {
        let context = self.for_slow_work().await?;
        finish(tokio::task::spawn_blocking(move || act(&context))).await
    }

    /// A store for an operation of unknown length.
    pub async fn for_slow_work(self: &Arc<Self>) -> Result<Context, ApiError> {
        self.lend(&self.slow).await
    }

    async fn lend(self: &Arc<Self>, places: &Arc<Semaphore>) -> Result<Context, ApiError> {
        let permit = places.clone().acquire_owned().await;
        let permit = permit.map_err(ApiError::broken)?;
        let known = lock(&self.stores).pop();
        let store = match known {
            Some(store) => store,
            None => Arc::new(self.open().await?),
        };
        Ok(Context {
            state: self.clone(),
            store,
            _permit: permit,
        })
    }

    async fn open(&self) -> Result<Store, ApiError> {
        let paths = self.paths.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&paths)).await;
        let store: Result<Store, StoreError> = opened.map_err(ApiError::broken)?;
        Ok(store?)
    }
}

/// What a mutex protects: no operation on it can stop halfway.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn finish<T>(task: tokio::task::JoinHandle<Result<T, ApiError>>) -> Result<T, ApiError> {
    match task.await {
        Ok(done) => done,
        Err(error) => Err(ApiError::broken(error)),
    }
}
