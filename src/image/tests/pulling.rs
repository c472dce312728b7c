//! An image to pull, and servers that have it: for all tests of pulls.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::{Content, Reply, Request, Server};
use super::{Home, TestImage, layer};
use crate::arch::Platform;
use crate::image::{self, ImageError, Reference, Silent};

/// An image of three layers; the blobs are of some ten kilobytes.
pub(super) fn image() -> TestImage {
    let layers = [
        layer(&[("a", 90_000)]),
        layer(&[("b", 60_000)]),
        layer(&[("c", 10)]),
    ];
    TestImage::new("amd64", &layers)
}

pub(super) fn content(image: &TestImage) -> Content {
    let mut content = Content::default();
    content.image("x", image);
    content
}

pub(super) fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub(super) fn pull(home: &Home, reference: &Reference) -> Result<image::Pulled, ImageError> {
    image::pull(
        &home.store,
        &home.settings,
        reference,
        Some(&amd64()),
        &Silent,
    )
}

/// A server that answers the first `count` requests for blobs of layers in its own way.
pub(super) fn server(
    image: &TestImage,
    count: usize,
    bad: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let (content, config) = (content(image), image.id().to_string());
    let served = AtomicUsize::new(0);
    Server::start(move |request| {
        let good = content.answer(request);
        let is_layer = request.path.contains("/blobs/") && !request.path.contains(&config);
        match is_layer && served.fetch_add(1, Ordering::Relaxed) < count {
            true => bad(request, good),
            false => good,
        }
    })
}

pub(super) fn assert_nothing_left(home: &Home) {
    home.store.collect_garbage().unwrap();
    assert_eq!(home.files(), (0, 0, 0));
    assert!(home.store.images().unwrap().is_empty());
}
