//! Stages side by side: each begins when those that it uses are done.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::plan::{Plan, Planned};
use super::report::Event;
use super::stage::{self, State};
use super::{BuildError, Builder};
use crate::image::digest::Digest;

/// A stage's stack: files are walked through one directory in the other.
const STACK: usize = 8 << 20;

/// How far each stage is, and a way to end them all.
#[derive(Debug)]
pub struct Stages {
    done: Mutex<Vec<Option<State>>>,
    changed: Condvar,
    stopped: AtomicBool,
    /// Connections that commands run over.
    running: Mutex<Vec<UnixStream>>,
    /// Stages that may work at this moment.
    slots: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stages {
    /// The result of a stage that the caller waited for.
    pub fn result(&self, stage: usize) -> Option<State> {
        lock(&self.done).get(stage).cloned().flatten()
    }

    /// Fails when another stage has failed.
    pub fn check(&self) -> Result<(), BuildError> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(BuildError::Stopped),
            false => Ok(()),
        }
    }

    /// Notes what a command runs over, to break it off when another stage fails.
    pub fn watch(&self, stream: UnixStream) {
        let mut running = lock(&self.running);
        if self.stopped.load(Ordering::Relaxed) {
            // An error means that it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        running.push(stream);
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        for stream in lock(&self.running).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(lock(&self.done));
        self.changed.notify_all();
    }

    /// Waits until all that a stage uses is done and there is room for it.
    fn wait(&self, planned: &Planned<'_>) -> Result<(), BuildError> {
        let mut done = lock(&self.done);
        loop {
            self.check()?;
            let ready = planned.needs.iter().all(|stage| done[*stage].is_some());
            if ready {
                let mut slots = lock(&self.slots);
                if *slots > 0 {
                    *slots -= 1;
                    return Ok(());
                }
            }
            done = self
                .changed
                .wait(done)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, stage: usize, state: State) {
        let mut done = lock(&self.done);
        done[stage] = Some(state);
        *lock(&self.slots) += 1;
        self.changed.notify_all();
    }
}

/// Builds every stage and returns the target's image.
pub fn run(builder: &Builder<'_>, plan: &Plan<'_>) -> Result<Option<Digest>, BuildError> {
    let count = plan.stages.last().map_or(0, |planned| planned.index + 1);
    let parallel = std::thread::available_parallelism().map_or(1, usize::from);
    let stages = Stages {
        done: Mutex::new(vec![None; count]),
        changed: Condvar::new(),
        stopped: AtomicBool::new(false),
        running: Mutex::default(),
        slots: Mutex::new(parallel.clamp(1, 4)),
    };
    let names: Vec<(usize, String)> = plan
        .stages
        .iter()
        .map(|planned| {
            let name = planned.stage.name.clone();
            (
                planned.index,
                name.unwrap_or_else(|| planned.index.to_string()),
            )
        })
        .collect();
    builder.report.stages(&names);
    let failure = Mutex::new(None);
    let work = |planned: &Planned<'_>| {
        let result = stages.wait(planned).and_then(|()| {
            let state = stage::run(builder, plan, planned, &stages)?;
            stages.finish(planned.index, state);
            Ok(())
        });
        builder.report.event(planned.index, Event::End);
        if let Err(error) = result {
            let mut failure = lock(&failure);
            if failure.is_none() && !matches!(error, BuildError::Stopped) {
                *failure = Some(error);
            }
            stages.stop();
        }
    };
    std::thread::scope(|scope| -> io::Result<()> {
        for planned in &plan.stages {
            let work = &work;
            let thread = std::thread::Builder::new()
                .name("stage".to_owned())
                .stack_size(STACK);
            if let Err(error) = thread.spawn_scoped(scope, move || work(planned)) {
                // Others would wait for this one.
                stages.stop();
                return Err(error);
            }
        }
        Ok(())
    })
    .map_err(|error| BuildError::Io("start a thread".to_owned(), error))?;
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(stages
            .result(count.saturating_sub(1))
            .and_then(|state| state.id)),
    }
}
