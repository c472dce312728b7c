//! A few threads for many jobs, all of which stop at the first error.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::ImageError;

/// Tells jobs that another one failed and that theirs is void.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The error of a job that gave up because of another.
    pub fn error(&self) -> io::Error {
        io::Error::other("another layer failed")
    }
}

/// Runs all `jobs`, at most `threads` at a time; the first error that is one of its own comes
/// back.
pub fn run<T: Send>(
    threads: usize,
    jobs: Vec<T>,
    work: impl Fn(T, &Stop) -> Result<(), ImageError> + Sync,
) -> Result<(), ImageError> {
    let threads = threads.min(jobs.len());
    let queue = Mutex::new(jobs.into_iter());
    let stop = Stop::default();
    let first = Mutex::new(None);
    let worker = || {
        while !stop.is_set() {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(job) = job else { break };
            if let Err(error) = work(job, &stop) {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                if !stop.0.swap(true, Ordering::Relaxed) {
                    *first = Some(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    first
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_job_runs_once() {
        let done = AtomicUsize::new(0);
        run(3, (1..=100).collect(), |job: usize, _| {
            done.fetch_add(job, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 5050);
    }

    #[test]
    fn the_first_error_stops_the_others() {
        let error = run(2, (0..1000).collect(), |job: usize, stop| {
            if job == 5 {
                return Err(ImageError::Archive("five".to_owned()));
            }
            match stop.is_set() {
                true => Err(ImageError::io("go on", stop.error())),
                false => Ok(()),
            }
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "invalid image archive: five"
        );
    }
}
