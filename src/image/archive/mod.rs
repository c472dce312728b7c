//! Image archives: `load`, `save` and `import`.
//!
//! Two formats, which current docker writes both at once: docker's own (`manifest.json` names
//! configurations and layers) and the OCI image layout (`index.json` leads to content by digest).

mod import;
mod load;
mod open;
mod save;
mod tarball;

#[cfg(test)]
mod tests;

pub use import::{Import, import};
pub use load::{Loaded, load};
pub use save::{Selection, save, select};
