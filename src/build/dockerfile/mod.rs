//! Dockerfiles: from text to stages and their steps, with mistakes shown where they are.
//!
//! An own parser: the crates that there are know neither several heredocs of one instruction,
//! nor options of all instructions, nor what a misspelt word was meant to be.

pub mod expand;
mod instruction;
mod lines;
mod parse;
mod source;
mod words;

#[cfg(test)]
mod tests;

pub use instruction::{
    Command, Copy, Dockerfile, Health, Instruction, NAMES, Network, Run, Stage, Step,
};
pub use lines::Heredoc;
pub use parse::{instruction, parse};
pub use source::{Mistake, Source, Span, suggest};
