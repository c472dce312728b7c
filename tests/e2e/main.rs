//! End-to-end tests: the `hull` binary, real images, real guests.
//!
//! `make test` builds everything, starts the seeded registry and sets `HULL_BIN` and
//! `HULL_CONFIG`; without them the tests look in the checkout's `target/`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; clippy's own exception does not reach their helpers"
)]

mod archive;
mod build;
mod classroom;
mod cli_table;
mod concurrency;
mod container_view;
mod crash;
mod create;
mod cycles;
mod docs;
mod engine;
mod escapes;
mod exec;
mod failures;
mod files;
mod foreign;
mod guest_kernel;
mod harness;
mod health;
mod images;
mod interactive;
mod layers;
mod leftovers;
mod lifecycle;
mod limits;
mod login;
mod matrix;
mod memory;
mod networks;
mod options;
mod ports;
mod restart;
mod rootless;
mod run;
mod serve;
mod standby;
mod streams;
mod system;
mod volumes;
mod workshop;
