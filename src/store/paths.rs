//! Where state lives: the one place that knows the directories.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The two directories that hull keeps things in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What survives a reboot: database, blobs, layers, writable disks.
    pub root: PathBuf,
    /// What does not: sockets and locks of running containers.
    pub run: PathBuf,
}

impl Paths {
    /// The directories of this process's user and environment.
    pub fn from_env() -> Result<Self, StoreError> {
        Self::choose(|name| env::var_os(name), nix::unistd::geteuid().is_root())
    }

    /// Both directories under `base`, as `HULL_ROOT` has it.
    pub fn under(base: &Path) -> Self {
        Self {
            root: base.to_owned(),
            run: base.join("run"),
        }
    }

    fn choose(
        variable: impl Fn(&str) -> Option<OsString>,
        superuser: bool,
    ) -> Result<Self, StoreError> {
        let directory = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(base) = directory("HULL_ROOT") {
            let base = std::path::absolute(&base)
                .map_err(|source| StoreError::io("use the directory", &base, source))?;
            return Ok(Self::under(&base));
        }
        if superuser {
            return Ok(Self {
                root: "/var/lib/hull".into(),
                run: "/run/hull".into(),
            });
        }
        let root = directory("XDG_DATA_HOME")
            .or_else(|| directory("HOME").map(|home| home.join(".local/share")))
            .ok_or(StoreError::NoHome)?
            .join("hull");
        let run = match directory("XDG_RUNTIME_DIR") {
            Some(runtime) => runtime.join("hull"),
            None => root.join("run"),
        };
        Ok(Self { root, run })
    }

    /// The metadata.
    pub fn database(&self) -> PathBuf {
        self.root.join("hull.db")
    }

    /// Compressed layers as they came, named by their digest's hexadecimal digits.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// EROFS images of layers, named by the hexadecimal digits of their diff-id.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Files that are being written, each locked by its writer.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// One file whose byte ranges are the per-digest locks.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(set: &[(&str, &str)], superuser: bool) -> (String, String) {
        let paths = Paths::choose(
            |name| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            },
            superuser,
        )
        .unwrap();
        (
            paths.root.display().to_string(),
            paths.run.display().to_string(),
        )
    }

    #[test]
    fn directories_follow_the_environment() {
        let both = |root: &str, run: &str| (root.to_owned(), run.to_owned());
        assert_eq!(choose(&[("HULL_ROOT", "/t")], true), both("/t", "/t/run"));
        assert_eq!(
            choose(&[("HULL_ROOT", "")], true),
            both("/var/lib/hull", "/run/hull")
        );
        assert_eq!(
            choose(&[("HOME", "/h")], false),
            both("/h/.local/share/hull", "/h/.local/share/hull/run")
        );
        assert_eq!(
            choose(
                &[
                    ("HOME", "/h"),
                    ("XDG_DATA_HOME", "/d"),
                    ("XDG_RUNTIME_DIR", "/r")
                ],
                false
            ),
            both("/d/hull", "/r/hull")
        );
        assert!(matches!(
            Paths::choose(|_| None, false),
            Err(StoreError::NoHome)
        ));
    }
}
