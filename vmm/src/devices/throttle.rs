//! How much a device may do in a second: a budget that it draws on and time refills.
//!
//! Something is done when the budget is not overdrawn and is charged afterwards, so that what is
//! larger than a whole budget is done too and paid for by waiting. Whatever waits, waits where it
//! comes from; a timer says when to go on.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::poll::Poller;

/// What an idle device may save up: a part of what it may do in a second.
const SAVED: f64 = 0.1;

/// Something that may happen so many times a second.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    left: f64,
    filled: Instant,
}

impl Budget {
    /// A budget that is full.
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        let per_second = per_second.max(1) as f64;
        Self {
            per_second,
            left: per_second * SAVED,
            filled: now,
        }
    }

    /// Let time pass.
    pub(super) fn refill(&mut self, now: Instant) {
        let time = now.duration_since(self.filled).as_secs_f64();
        self.left = (self.left + time * self.per_second).min(self.per_second * SAVED);
        self.filled = now;
    }

    /// The time until it is not overdrawn.
    pub(super) fn wait(&self) -> Duration {
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        // A budget of one byte in a second can be overdrawn for long, but not for ever.
        Duration::from_secs_f64((-self.left / self.per_second).min(3600.0))
    }

    /// Pay for something.
    pub(super) fn charge(&mut self, amount: u64) {
        self.left -= amount as f64;
    }
}

/// Says when a budget is not overdrawn any more.
#[derive(Debug)]
pub(super) struct Timer(TimerFd);

impl Timer {
    /// A timer that announces itself at `poller` with `token`.
    pub(super) fn new(poller: &Poller, token: u32) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        poller.watch(timer.as_fd(), token)?;
        Ok(Self(timer))
    }

    /// Fire after this time.
    pub(super) fn set(&self, wait: Duration) -> Result<(), Errno> {
        // A timer that is set to zero never fires.
        let wait = wait.max(Duration::from_micros(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.0.set(expiration, TimerSetTimeFlags::empty())
    }

    /// It has fired.
    pub(super) fn fired(&self) {
        // Fails only when it has not, which is as good.
        let _ = self.0.wait();
    }
}

/// One budget with its timer.
#[derive(Debug)]
pub(super) struct Throttle {
    budget: Budget,
    timer: Timer,
}

impl Throttle {
    /// So much in a second.
    pub(super) fn new(per_second: u64, poller: &Poller, token: u32) -> io::Result<Self> {
        Ok(Self {
            budget: Budget::new(per_second, Instant::now()),
            timer: Timer::new(poller, token)?,
        })
    }

    /// Whether the next may be done; if not, the timer will say so.
    pub(super) fn may_go_on(&mut self) -> Result<bool, Errno> {
        self.budget.refill(Instant::now());
        let wait = self.budget.wait();
        if wait.is_zero() {
            return Ok(true);
        }
        self.timer.set(wait)?;
        Ok(false)
    }

    /// Pay for something.
    pub(super) fn charge(&mut self, amount: u64) {
        self.budget.charge(amount);
    }

    /// The timer has fired.
    pub(super) fn fired(&self) {
        self.timer.fired();
    }
}
