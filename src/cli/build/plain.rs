//! Progress as docker's classic builder writes it: one step after the other, in the order of the
//! Dockerfile, also when stages run side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::build::{Event, Report};

/// Writes to the standard output.
#[derive(Debug)]
pub struct Plain {
    quiet: bool,
    inner: Mutex<Inner>,
}

/// The first stage that is not at its end writes at once, the others wait.
#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<usize, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    ended: bool,
}

impl Plain {
    /// A reporter; nothing is told when `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            inner: Mutex::default(),
        }
    }

    /// Writes what still waits.
    pub fn finish(&self) {
        let mut inner = self.lock();
        for (_, waiting) in std::mem::take(&mut inner.waiting) {
            write(&waiting.text);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(text: &[u8]) {
    // Who closed the stream does not want to know.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text).and_then(|()| out.flush());
}

impl Inner {
    fn put(&mut self, stage: usize, text: &[u8]) {
        let first = self.waiting.keys().next().copied();
        if first.is_none_or(|first| stage <= first) {
            return write(text);
        }
        match self.waiting.get_mut(&stage) {
            Some(waiting) => waiting.text.extend_from_slice(text),
            None => write(text),
        }
    }

    fn end(&mut self, stage: usize) {
        if let Some(waiting) = self.waiting.get_mut(&stage) {
            waiting.ended = true;
        }
        while let Some(first) = self.waiting.first_entry() {
            if !first.get().ended {
                // It may have said something while it waited.
                write(&std::mem::take(&mut first.into_mut().text));
                return;
            }
            write(&first.remove().text);
        }
    }
}

impl Report for Plain {
    fn stages(&self, stages: &[(usize, String)]) {
        let mut inner = self.lock();
        inner.waiting = stages
            .iter()
            .map(|(stage, _)| (*stage, Waiting::default()))
            .collect();
    }

    fn event(&self, stage: usize, event: Event<'_>) {
        let mut inner = self.lock();
        if self.quiet {
            return;
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = match event {
            Event::Step {
                number,
                total,
                text: step,
            } => writeln!(text, "Step {number}/{total} : {step}"),
            Event::Cached => writeln!(text, " ---> Using cache"),
            Event::Running => writeln!(text, " ---> Running"),
            Event::Done(id, time) => match time.as_millis() {
                0..100 => writeln!(text, " ---> {}", id.short()),
                _ => writeln!(text, " ---> {} ({:.1}s)", id.short(), time.as_secs_f64()),
            },
            Event::Note(note) => writeln!(text, "{note}"),
            Event::Output(bytes) => return inner.put(stage, bytes),
            Event::End => return inner.end(stage),
        };
        inner.put(stage, text.as_bytes());
    }
}
