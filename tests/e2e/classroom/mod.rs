//! What the classroom sees: layers, hashes, comparisons and their pages in a real browser.

mod browser;
mod compare;
mod hash;
mod layers;
mod pages;
mod ui;
