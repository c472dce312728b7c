//! The layers of an image: fetched side by side, verified, converted and stored as they arrive.

use std::io::{self, Read};
use std::sync::Arc;

use super::Task;
use super::resolve::Job;
use crate::image::convert::{self, Expected};
use crate::image::error::ImageError;
use crate::image::parallel::{self, Stop};
use crate::image::progress::{Progress, Step};
use crate::image::registry::{Session, Source};
use crate::store::Lease;

impl Task<'_> {
    /// Fetches layers side by side; the first error stops all.
    pub(super) fn fetch_layers(
        &self,
        session: &Arc<Session>,
        lease: &Lease<'_>,
        jobs: Vec<Job>,
    ) -> Result<(), ImageError> {
        let threads = self.settings.limits.parallel_downloads;
        parallel::run(threads, jobs, |job, stop| {
            self.fetch_layer(session, lease, &job, stop)
        })
    }

    fn fetch_layer(
        &self,
        session: &Arc<Session>,
        lease: &Lease<'_>,
        job: &Job,
        stop: &Stop,
    ) -> Result<(), ImageError> {
        let (name, size) = (job.blob.digest.short(), job.blob.size);
        let _lock = self.store.lock_digest(&job.blob.digest, || {
            self.progress.layer(&name, Step::Waiting)
        })?;
        if self
            .store
            .claim_blob(lease, &job.blob.digest, &job.diff_id)?
            .is_some()
        {
            self.progress.layer(&name, Step::AlreadyExists);
            return Ok(());
        }
        self.progress.layer(&name, Step::Downloading(0, size));
        let source = Source::fetch(self.runtime.handle(), Arc::clone(session), job.blob.clone());
        let mut input = Watched {
            source,
            name: &name,
            size,
            done: 0,
            stop,
            progress: self.progress,
        };
        let limits = convert::limits(&self.settings.limits);
        let expected = Expected {
            blob: Some(&job.blob),
            diff_id: Some(&job.diff_id),
        };
        let added = convert::add_layer(self.store, lease, &limits, &mut input, expected);
        if let Some(failure) = input.source.take_failure() {
            return Err(failure.into());
        }
        added?;
        self.progress.layer(&name, Step::PullComplete);
        Ok(())
    }
}

/// A layer as it arrives, telling how far it is and stopping when the others failed.
struct Watched<'a> {
    source: Source,
    name: &'a str,
    size: u64,
    done: u64,
    stop: &'a Stop,
    progress: &'a dyn Progress,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            return Err(self.stop.error());
        }
        let count = self.source.read(buffer)?;
        if self.source.take_retry() {
            self.progress.layer(self.name, Step::Retrying);
        }
        self.done += count as u64;
        self.progress
            .layer(self.name, Step::Downloading(self.done, self.size));
        Ok(count)
    }
}
