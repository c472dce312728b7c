//! Progress as docker's classic builder writes it: one step after the other, in the order of the
//! Dockerfile, also when stages run side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::report::{Event, Report};

/// Where the record goes, piece by piece.
pub type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Writes a record.
pub struct Plain {
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

/// The first stage that is not at its end writes at once, the others wait.
struct Inner {
    sink: Sink,
    waiting: BTreeMap<usize, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    ended: bool,
}

impl Plain {
    /// A reporter to the standard output; nothing is told when `quiet`.
    pub fn new(quiet: bool) -> Self {
        match quiet {
            true => Self::to(Box::new(|_| {})),
            false => Self::to(Box::new(write)),
        }
    }

    /// A reporter to somewhere else.
    pub fn to(sink: Sink) -> Self {
        Self {
            inner: Mutex::new(Inner {
                sink,
                waiting: BTreeMap::new(),
            }),
        }
    }

    /// Writes what still waits.
    pub fn finish(&self) {
        let mut inner = self.lock();
        for (_, waiting) in std::mem::take(&mut inner.waiting) {
            (inner.sink)(&waiting.text);
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
            return (self.sink)(text);
        }
        match self.waiting.get_mut(&stage) {
            Some(waiting) => waiting.text.extend_from_slice(text),
            None => (self.sink)(text),
        }
    }

    fn end(&mut self, stage: usize) {
        if let Some(waiting) = self.waiting.get_mut(&stage) {
            waiting.ended = true;
        }
        while let Some(first) = self.waiting.first_entry() {
            if !first.get().ended {
                // It may have said something while it waited.
                (self.sink)(&std::mem::take(&mut first.into_mut().text));
                return;
            }
            (self.sink)(&first.remove().text);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn stages_side_by_side_are_told_one_after_the_other() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let plain = Plain::to(Box::new(move |text| {
            sink.lock().unwrap().extend_from_slice(text);
        }));
        let now = || String::from_utf8(said.lock().unwrap().clone()).unwrap();
        plain.stages(&[(0, "a".into()), (2, "b".into()), (3, "c".into())]);
        plain.event(2, Event::Output(b"b1 "));
        plain.event(0, Event::Output(b"a1 "));
        assert_eq!(now(), "a1 ");
        plain.event(3, Event::Output(b"c1 "));
        plain.event(3, Event::End);
        assert_eq!(now(), "a1 ");
        plain.event(0, Event::End);
        assert_eq!(now(), "a1 b1 ");
        plain.event(2, Event::Output(b"b2 "));
        plain.event(2, Event::End);
        assert_eq!(now(), "a1 b1 b2 c1 ");
        plain.event(0, Event::Note("end"));
        assert_eq!(now(), "a1 b1 b2 c1 end\n");
    }
}
