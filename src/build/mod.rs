//! `hull build`: from a Dockerfile and a context to images, one per step.

pub mod dockerfile;
