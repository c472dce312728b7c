//! Commands about images.
