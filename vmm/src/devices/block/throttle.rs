//! How much a disk may do in a second, in bytes and in requests. What must wait, waits in the
//! guest's queue.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::super::throttle::{Budget, Timer};
use super::request::Served;
use crate::IoLimits;
use crate::poll::Poller;

/// The timer's token at the poller.
const TIMER: u32 = 0;

/// The limits of a disk.
#[derive(Debug)]
struct Budgets {
    read_bytes: Option<Budget>,
    write_bytes: Option<Budget>,
    reads: Option<Budget>,
    writes: Option<Budget>,
}

impl Budgets {
    fn new(limits: &IoLimits, now: Instant) -> Self {
        let budget = |limit: Option<u64>| limit.map(|limit| Budget::new(limit, now));
        Self {
            read_bytes: budget(limits.read_bytes),
            write_bytes: budget(limits.write_bytes),
            reads: budget(limits.reads),
            writes: budget(limits.writes),
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Budget> {
        [
            &mut self.read_bytes,
            &mut self.write_bytes,
            &mut self.reads,
            &mut self.writes,
        ]
        .into_iter()
        .flatten()
    }

    fn wait(&mut self, now: Instant) -> Duration {
        let waits = self.all().map(|budget| {
            budget.refill(now);
            budget.wait()
        });
        waits.max().unwrap_or_default()
    }

    fn charge(&mut self, served: Served) {
        let charge = |budget: &mut Option<Budget>, amount: u64| {
            if let Some(budget) = budget {
                budget.charge(amount);
            }
        };
        charge(&mut self.read_bytes, served.read);
        charge(&mut self.write_bytes, served.wrote);
        charge(&mut self.reads, u64::from(served.read > 0));
        charge(&mut self.writes, u64::from(served.wrote > 0));
    }
}

/// Budgets and the timer that says when they are not overdrawn any more.
#[derive(Debug)]
pub(crate) struct Throttle {
    budgets: Budgets,
    timer: Timer,
}

impl Throttle {
    /// Limits, if there are any. `poller` belongs to the device alone.
    pub(crate) fn new(limits: &IoLimits, poller: &Poller) -> std::io::Result<Option<Self>> {
        if *limits == IoLimits::default() {
            return Ok(None);
        }
        Ok(Some(Self {
            budgets: Budgets::new(limits, Instant::now()),
            timer: Timer::new(poller, TIMER)?,
        }))
    }

    /// Whether the next request may be served; if not, the timer will say so.
    pub(super) fn may_serve(&mut self) -> Result<bool, Errno> {
        let wait = self.budgets.wait(Instant::now());
        if wait.is_zero() {
            return Ok(true);
        }
        self.timer.set(wait)?;
        Ok(false)
    }

    /// Pays for a request.
    pub(super) fn charge(&mut self, served: Served) {
        self.budgets.charge(served);
    }

    /// The timer has fired.
    pub(super) fn fired(&self) {
        self.timer.fired();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(read: u64, wrote: u64) -> Served {
        Served {
            written: 0,
            read,
            wrote,
        }
    }

    #[test]
    fn budgets_are_overdrawn_and_refilled() {
        let begin = Instant::now();
        let limits = IoLimits {
            write_bytes: Some(1000),
            ..IoLimits::default()
        };
        let mut budgets = Budgets::new(&limits, begin);
        assert_eq!(budgets.wait(begin), Duration::ZERO);
        budgets.charge(served(1_000_000, 0));
        assert_eq!(budgets.wait(begin), Duration::ZERO, "reads are free");
        // A tenth of a second is saved up, the rest must be waited for.
        budgets.charge(served(0, 2100));
        assert_eq!(budgets.wait(begin), Duration::from_secs(2));
        let later = begin + Duration::from_secs(1);
        assert_eq!(budgets.wait(later), Duration::from_secs(1));
        let much_later = begin + Duration::from_secs(1000);
        assert_eq!(budgets.wait(much_later), Duration::ZERO);
        budgets.charge(served(0, 100));
        assert_eq!(budgets.wait(much_later), Duration::ZERO);
        budgets.charge(served(0, 1000));
        assert_eq!(budgets.wait(much_later), Duration::from_secs(1));
    }

    #[test]
    fn operations_are_counted_whatever_their_size() {
        let begin = Instant::now();
        let limits = IoLimits {
            reads: Some(10),
            ..IoLimits::default()
        };
        let mut budgets = Budgets::new(&limits, begin);
        for _ in 0..6 {
            budgets.charge(served(4096, 0));
        }
        assert_eq!(budgets.wait(begin), Duration::from_millis(500));
    }

    #[test]
    fn no_limits_need_no_timer() {
        let poller = Poller::new().unwrap();
        assert!(
            Throttle::new(&IoLimits::default(), &poller)
                .unwrap()
                .is_none()
        );
    }
}
