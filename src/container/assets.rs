//! What a guest is made of besides its image: kernels, agents, emulators.
//!
//! Looked for in `$HULL_ASSETS`, beside the checkout's build output (`target/`), and in
//! `lib/hull` of the prefix that `hull` is installed under; each holds `kernels/`, `guest/`
//! and `emulators/`.

use std::env;
use std::path::{Path, PathBuf};

use vmm::{EngineKind, GuestArch};

/// Why a guest cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// No kernel of that kind.
    #[error(
        "the guest kernel {name} is not built, run `hull kernel build --target {target}` (looked in {})",
        places(.looked)
    )]
    NoKernel {
        /// File name.
        name: &'static str,
        /// What to build.
        target: &'static str,
        /// Directories.
        looked: Vec<PathBuf>,
    },
    /// No agent of that architecture.
    #[error(
        "the guest agent {name} is not built, run `make build` in hull's source (looked in {})",
        places(.looked)
    )]
    NoAgent {
        /// File name.
        name: String,
        /// Directories.
        looked: Vec<PathBuf>,
    },
    /// No static emulators.
    #[error(
        "the emulators for foreign programs are not there, run `make build` in hull's source (looked in {})",
        places(.0)
    )]
    NoEmulators(Vec<PathBuf>),
}

fn places(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The directories that may hold assets, first match wins.
pub fn directories() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("HULL_ASSETS").filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let program = env::current_exe().unwrap_or_default();
    // target/release/hull and PREFIX/bin/hull have their assets at the same distance.
    let up = program
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .unwrap_or_default();
    vec![
        up.clone(),
        up.join("lib/hull"),
        "/usr/local/lib/hull".into(),
        "/usr/lib/hull".into(),
    ]
}

/// The guest kernel's file name and build target.
pub fn kernel_names(engine: EngineKind, arch: GuestArch) -> (&'static str, &'static str) {
    match (engine, arch) {
        (EngineKind::Uml, _) => ("linux-um", "um"),
        (_, GuestArch::X86_64) => ("vmlinux-x86_64", "x86_64"),
        (_, GuestArch::Aarch64) => ("Image-aarch64", "aarch64"),
    }
}

/// The guest kernel for `engine` and `arch`.
pub fn kernel(engine: EngineKind, arch: GuestArch) -> Result<PathBuf, AssetError> {
    let (name, target) = kernel_names(engine, arch);
    let looked = directories();
    find(&looked, &format!("kernels/{name}")).ok_or(AssetError::NoKernel {
        name,
        target,
        looked,
    })
}

/// The initramfs with the agent.
pub fn initramfs(arch: GuestArch) -> Result<PathBuf, AssetError> {
    let name = format!("initramfs-{arch}.cpio");
    let looked = directories();
    find(&looked, &format!("guest/{name}")).ok_or(AssetError::NoAgent { name, looked })
}

/// The directory with the static emulators.
pub fn emulators() -> Result<PathBuf, AssetError> {
    let looked = directories();
    find(&looked, "emulators/bin").ok_or(AssetError::NoEmulators(looked))
}

fn find(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    directories
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_with_the_file_wins() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(b.path().join("kernels")).unwrap();
        std::fs::write(b.path().join("kernels/x"), "").unwrap();
        let both = [a.path().to_owned(), b.path().to_owned()];
        assert_eq!(find(&both, "kernels/x"), Some(b.path().join("kernels/x")));
        assert_eq!(find(&both, "kernels/y"), None);
    }

    #[test]
    fn a_missing_kernel_says_how_to_get_one() {
        let error = AssetError::NoKernel {
            name: "linux-um",
            target: "um",
            looked: vec!["/a".into(), "/b".into()],
        };
        let text = error.to_string();
        assert!(text.contains("hull kernel build --target um") && text.contains("/a, /b"));
    }
}
