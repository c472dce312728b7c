//! How much a disk may do in a second: budgets that requests draw on and time refills.
//!
//! A request is served when no budget is overdrawn and is charged afterwards, so that one
//! larger than a whole budget is served too and paid for by waiting. Whatever waits, waits in
//! the guest's queue; a timer says when to go on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::request::Served;
use crate::IoLimits;
use crate::poll::Poller;

/// The timer's token at the poller.
const TIMER: u32 = 0;

/// What an idle disk may save up: a part of what it may do in a second.
const SAVED: f64 = 0.1;

/// Something that may happen so many times a second.
#[derive(Debug)]
struct Budget {
    per_second: f64,
    left: f64,
    filled: Instant,
}

impl Budget {
    fn new(per_second: u64, now: Instant) -> Self {
        let per_second = per_second.max(1) as f64;
        Self {
            per_second,
            left: per_second * SAVED,
            filled: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let time = now.duration_since(self.filled).as_secs_f64();
        self.left = (self.left + time * self.per_second).min(self.per_second * SAVED);
        self.filled = now;
    }

    /// The time until it is not overdrawn.
    fn wait(&self) -> Duration {
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        // A budget of one byte in a second can be overdrawn for long, but not for ever.
        Duration::from_secs_f64((-self.left / self.per_second).min(3600.0))
    }
}

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
                budget.left -= amount as f64;
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
    timer: TimerFd,
}

impl Throttle {
    /// Limits, if there are any. `poller` belongs to the device alone.
    pub(crate) fn new(limits: &IoLimits, poller: &Poller) -> std::io::Result<Option<Self>> {
        if *limits == IoLimits::default() {
            return Ok(None);
        }
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        poller.watch(timer.as_fd(), TIMER)?;
        Ok(Some(Self {
            budgets: Budgets::new(limits, Instant::now()),
            timer,
        }))
    }

    /// Whether the next request may be served; if not, the timer will say so.
    pub(super) fn may_serve(&mut self) -> Result<bool, Errno> {
        let wait = self.budgets.wait(Instant::now());
        if wait.is_zero() {
            return Ok(true);
        }
        // A timer that is set to zero never fires.
        let wait = wait.max(Duration::from_micros(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        Ok(false)
    }

    /// Pays for a request.
    pub(super) fn charge(&mut self, served: Served) {
        self.budgets.charge(served);
    }

    /// The timer has fired.
    pub(super) fn fired(&self) {
        // Fails only when it has not, which is as good.
        let _ = self.timer.wait();
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
