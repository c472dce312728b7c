//! What a CPU's exits were about, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one CPU. Its thread alone writes them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    exits: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    ports: AtomicU64,
}

/// A moment's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Times that the CPU stopped for the VMM.
    pub(crate) exits: u64,
    /// Of these, reads and writes of device registers.
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// Of these, accesses to the console's port.
    pub(crate) ports: u64,
}

fn add(counter: &AtomicU64) {
    // No other thread writes.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn exit(&self) {
        add(&self.exits);
    }

    pub(super) fn read(&self) {
        add(&self.reads);
    }

    pub(super) fn write(&self) {
        add(&self.writes);
    }

    pub(super) fn port(&self) {
        add(&self.ports);
    }

    /// The numbers now.
    pub(crate) fn now(&self) -> Count {
        Count {
            exits: self.exits.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            ports: self.ports.load(Ordering::Relaxed),
        }
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            exits: a.exits + b.exits,
            reads: a.reads + b.reads,
            writes: a.writes + b.writes,
            ports: a.ports + b.ports,
        })
    }
}
