//! What a build tells while it goes on.

use std::time::Duration;

use crate::image::digest::Digest;

/// Something that happened in a stage.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step begins.
    Step {
        /// From 1.
        number: usize,
        /// Of all that are needed.
        total: usize,
        /// The instruction.
        text: &'a str,
    },
    /// The step was done before.
    Cached,
    /// The step's command runs now.
    Running,
    /// The command said something.
    Output(&'a [u8]),
    /// The step is done, and this is its image.
    Done(&'a Digest, Duration),
    /// A sentence.
    Note(&'a str),
    /// Nothing more comes of this stage.
    End,
}

/// Who wants to know; stages tell from threads of their own.
pub trait Report: Sync {
    /// All stages that will tell something, in the order in which they stand.
    fn stages(&self, stages: &[(usize, String)]);
    /// Something happened.
    fn event(&self, stage: usize, event: Event<'_>);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nobody;

impl Report for Nobody {
    fn stages(&self, _stages: &[(usize, String)]) {}
    fn event(&self, _stage: usize, _event: Event<'_>) {}
}
