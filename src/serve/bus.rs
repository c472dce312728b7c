//! What happens, for everybody who waits for something: the store's journal, read once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::state::Shared;
use super::watch::Watcher;
use crate::events::Event;
use crate::store::{Store, StoreError};

/// Events that a slow follower may be behind before it has to read the journal itself.
const QUEUE: usize = 1024;
/// How long after the last change what it brought can be read for sure.
const SETTLING: Duration = Duration::from_millis(50);

/// Where events are announced.
#[derive(Debug)]
pub struct Bus(broadcast::Sender<Arc<Event>>);

impl Bus {
    /// A bus that [`run`] feeds.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(QUEUE))
    }

    /// All events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }
}

/// Reads the journal whenever it grows; never returns but for an error.
pub async fn run(state: Shared, store: Store) -> Result<(), anyhow::Error> {
    let root = store.paths().root.clone();
    let mut changes = state.watcher.watch(&root)?;
    let store = Arc::new(store);
    let mut last = read(store.clone(), 0)
        .await?
        .last()
        .map_or(0, |event| event.id);
    let mut settled = true;
    loop {
        for event in read(store.clone(), last).await? {
            last = event.id;
            // Nobody may be listening.
            let _ = state.bus.0.send(Arc::new(event));
        }
        if settled {
            changes.changed().await?;
            settled = false;
        } else {
            // The database says that it grew a moment before it shows what it grew by.
            let more = tokio::time::timeout(SETTLING, changes.changed()).await;
            settled = more.is_err();
        }
    }
}

async fn read(store: Arc<Store>, after: i64) -> Result<Vec<Event>, anyhow::Error> {
    let events = tokio::task::spawn_blocking(move || store.events(after, 0, None)).await?;
    Ok(events?)
}

/// Runs what the bus lives from.
pub fn start(state: &Shared, store: Store) -> Result<(), StoreError> {
    let (watching, reading) = (state.clone(), state.clone());
    tokio::spawn(async move {
        if let Err(error) = watch(&watching.watcher).await {
            eprintln!("hull: watching the state directory: {error}");
        }
    });
    tokio::spawn(async move {
        if let Err(error) = run(reading, store).await {
            eprintln!("hull: reading the journal of events: {error}");
        }
    });
    Ok(())
}

async fn watch(watcher: &Watcher) -> std::io::Result<()> {
    watcher.run().await
}
