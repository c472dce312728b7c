//! Clients that attach to a container before it runs, as `docker run` does: they are handed its
//! streams when it starts, so that nothing it writes is missed.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::attach;
use crate::container::Container;
use crate::container::control::Attach;
use crate::serve::relay::Feed;
use crate::serve::state::{Shared, lock};

/// All clients that wait, by container.
#[derive(Debug, Default)]
pub struct Pending {
    clients: Mutex<HashMap<String, Vec<Waiting>>>,
    next: AtomicU64,
}

/// A client that waits.
#[derive(Debug)]
pub struct Waiting {
    number: u64,
    /// It sends standard input.
    pub stdin: bool,
    /// Where it gets the streams.
    pub feed: oneshot::Sender<Feed>,
}

impl Pending {
    fn add(&self, container: &str, stdin: bool) -> (u64, oneshot::Receiver<Feed>) {
        let (feed, receiver) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting {
            number,
            stdin,
            feed,
        };
        let mut clients = lock(&self.clients);
        clients
            .entry(container.to_owned())
            .or_default()
            .push(waiting);
        (number, receiver)
    }

    /// Takes a client back; false when somebody who starts the container has it.
    fn withdraw(&self, container: &str, number: u64) -> bool {
        let mut clients = lock(&self.clients);
        let Some(waiting) = clients.get_mut(container) else {
            return false;
        };
        let before = waiting.len();
        waiting.retain(|client| client.number != number);
        let was_there = waiting.len() < before;
        if waiting.is_empty() {
            clients.remove(container);
        }
        was_there
    }

    /// Takes all clients of a container, for whoever starts it.
    pub fn claim(&self, container: &str) -> Vec<Waiting> {
        let claimed = lock(&self.clients).remove(container).unwrap_or_default();
        // Those that left have nobody to receive.
        let there = claimed
            .into_iter()
            .filter(|client| !client.feed.is_closed());
        there.collect()
    }
}

/// A place among those that wait, given up when it is dropped.
#[derive(Debug)]
pub struct Place {
    state: Shared,
    container: Container,
    stdin: bool,
    number: u64,
    feed: oneshot::Receiver<Feed>,
    events: tokio::sync::broadcast::Receiver<std::sync::Arc<crate::events::Event>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.pending.withdraw(&self.container.id, self.number);
    }
}

impl Place {
    /// Begins to wait.
    pub fn take(state: &Shared, container: &Container, stdin: bool) -> Self {
        let events = state.bus.subscribe();
        let (number, feed) = state.pending.add(&container.id, stdin);
        Self {
            state: state.clone(),
            container: container.clone(),
            stdin,
            number,
            feed,
            events,
        }
    }

    /// The container's streams once it runs, whoever starts it; none when it never does.
    pub async fn feed(mut self) -> Option<Feed> {
        loop {
            let event = tokio::select! {
                biased;
                feed = &mut self.feed => return feed.ok(),
                event = self.events.recv() => event,
            };
            let started = match event {
                Ok(event) if event.kind != "container" || event.actor != self.container.id => false,
                // Whoever started it, and has the streams, hands them over though it is gone.
                Ok(event) if event.action == "destroy" => {
                    match self.state.pending.withdraw(&self.container.id, self.number) {
                        true => return None,
                        false => return (&mut self.feed).await.ok(),
                    }
                }
                Ok(event) => event.action == "start",
                // What was missed may have been it.
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return None,
            };
            // Who starts it through this server hands the streams over instead.
            if started && self.state.pending.withdraw(&self.container.id, self.number) {
                let asked = Attach {
                    stdin: self.stdin,
                    output: true,
                    ..Attach::default()
                };
                return attach::join(&self.state, &self.container, asked).await.ok();
            }
        }
    }
}
