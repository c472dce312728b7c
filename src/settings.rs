//! The user's settings: one TOML file, read once per command.
//!
//! The first of these that exists is read, and nothing else: the file that `HULL_CONFIG` names,
//! `$XDG_CONFIG_HOME/hull/config.toml` (by default under `~/.config`), `/etc/hull/config.toml`.
//! Every key has a default, so that no file is needed; a key that hull does not know is an
//! error, because a misspelt limit that is silently ignored limits nothing.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::arch::Platform;
use crate::arch::dispatch::Isolation;

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// How to reach registries, by the name that stands in image references.
    pub registries: BTreeMap<String, Registry>,
    /// What `hull run` does where its options do not say.
    pub defaults: Defaults,
    /// What containers of certain images need, by the images' name or, with a `*` at the end,
    /// its beginning.
    pub images: BTreeMap<String, ImageRule>,
    /// What an image may cost this machine.
    pub limits: Limits,
    /// What builds may keep.
    pub builds: Builds,
}

/// What builds may keep of steps that lead to no image with a name, and of caches of commands.
/// What is above that goes after a build, the longest unused first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Builds {
    /// Bytes; 0 is no limit.
    pub keep_bytes: u64,
    /// Days without use; 0 is no limit.
    pub keep_days: u32,
}

impl Default for Builds {
    fn default() -> Self {
        Self {
            keep_bytes: 20 << 30,
            keep_days: 60,
        }
    }
}

/// One registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registry {
    /// Base addresses to try before the registry itself, in this order.
    pub mirrors: Vec<String>,
    /// Reach the registry over plain HTTP when it offers no TLS, and accept a certificate that
    /// nobody vouches for.
    pub insecure: bool,
}

/// Defaults of `hull run`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Defaults {
    /// Engine: `kvm`, `uml` or `tcg`; found by probing when not set.
    pub engine: Option<String>,
    /// Where foreign programs run: `user` or `system`.
    pub emulation: Option<String>,
    /// The weakest boundary that will do: `hardware`, `kernel` or `any`.
    pub isolation: Option<Isolation>,
    /// Memory of a container, as `--memory` takes it: `512m`.
    pub memory: Option<String>,
    /// Processors of a container, as `--cpus` takes them.
    pub cpus: Option<f64>,
    /// Platform of images, as `--platform` takes it; the machine's own when not set.
    pub platform: Option<String>,
    /// When to ask the registry: `missing`, `always` or `never`.
    pub pull: Option<String>,
    /// How long a booted guest waits for the next container, after one has started; 0 is not at
    /// all.
    pub standby_seconds: Option<u64>,
}

impl Defaults {
    /// Seconds that a booted guest waits for the next container.
    pub fn standby_seconds(&self) -> u64 {
        self.standby_seconds.unwrap_or(60)
    }
}

/// What containers of an image need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageRule {
    /// The weakest boundary that will do, whatever the command says.
    pub isolation: Isolation,
}

/// Bounds on what an image from elsewhere may cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Bytes that one layer may unpack to.
    pub layer_bytes: u64,
    /// Files that one layer may hold.
    pub layer_files: u64,
    /// Layers that one image may have; by default what a machine takes as partitions of one
    /// disk, with room for the emulators and a layer of directory attributes.
    pub layers: usize,
    /// Bytes of one manifest or image configuration.
    pub manifest_bytes: u64,
    /// Layers that are fetched at the same time.
    pub parallel_downloads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 64 << 30,
            layer_files: 5_000_000,
            layers: 198,
            manifest_bytes: 4 << 20,
            parallel_downloads: 3,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there but cannot be read.
    #[error("cannot read the settings in {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no TOML, or names a key that does not exist or has another type.
    #[error("settings in {path}{place}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, where it is known.
        place: String,
        /// What is wrong there.
        message: String,
    },
}

impl Settings {
    /// The settings of this process's user and environment.
    pub fn load() -> Result<Self, SettingsError> {
        if let Some(path) = env::var_os("HULL_CONFIG").filter(|path| !path.is_empty()) {
            return Self::read(Path::new(&path));
        }
        let user = env::var_os("XDG_CONFIG_HOME")
            .filter(|base| !base.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")))
            .map(|base| base.join("hull/config.toml"));
        for path in user
            .into_iter()
            .chain([PathBuf::from("/etc/hull/config.toml")])
        {
            match Self::read(&path) {
                Err(SettingsError::Read { cause, .. })
                    if matches!(
                        cause.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                result => return result,
            }
        }
        Ok(Self::default())
    }

    /// The settings in this file.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|cause| SettingsError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let fail = |place: String, message: String| SettingsError::Parse {
            path: path.to_owned(),
            place,
            message,
        };
        let settings: Self = toml::from_str(text).map_err(|error| {
            let line = |span: std::ops::Range<usize>| {
                1 + text.as_bytes()[..span.start.min(text.len())]
                    .iter()
                    .filter(|&&b| b == b'\n')
                    .count()
            };
            let place = error.span().map(|span| format!(", line {}", line(span)));
            fail(place.unwrap_or_default(), error.message().trim().to_owned())
        })?;
        if let Some(platform) = &settings.defaults.platform {
            platform
                .parse::<Platform>()
                .map_err(|error| fail(", defaults.platform".to_owned(), error.to_string()))?;
        }
        for (name, registry) in &settings.registries {
            for mirror in &registry.mirrors {
                if !mirror.starts_with("http://") && !mirror.starts_with("https://") {
                    return Err(fail(
                        format!(", registries.{name:?}.mirrors"),
                        format!("{mirror:?} must begin with http:// or https://"),
                    ));
                }
            }
        }
        if settings.limits.parallel_downloads == 0 {
            return Err(fail(
                ", limits.parallel-downloads".to_owned(),
                "must be at least 1".to_owned(),
            ));
        }
        Ok(settings)
    }

    /// How to reach the registry of this name.
    pub fn registry(&self, name: &str) -> Registry {
        self.registries.get(name).cloned().unwrap_or_default()
    }

    /// The platform that is meant where the command does not name one.
    pub fn platform(&self) -> Platform {
        self.defaults
            .platform
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(Platform::host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("/x.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_has_a_default_and_can_be_set() {
        assert_eq!(parse("").unwrap(), Settings::default());
        let settings = parse(
            "[registries.'docker.io']\nmirrors = ['http://localhost:5000']\ninsecure = true\n\
             [defaults]\ncpus = 1.5\nplatform = 'arm64'\n[limits]\nlayer-bytes = 10\n",
        )
        .unwrap();
        assert!(settings.registry("docker.io").insecure);
        assert_eq!(
            settings.registry("docker.io").mirrors,
            ["http://localhost:5000"]
        );
        assert_eq!(settings.registry("ghcr.io"), Registry::default());
        assert_eq!(settings.platform().to_string(), "linux/arm64");
        assert_eq!(settings.limits.layer_bytes, 10);
        assert_eq!(settings.limits.layers, Limits::default().layers);
    }

    #[test]
    fn mistakes_name_the_file_and_the_key() {
        for (text, expected) in [
            (
                "[default]\n",
                "settings in /x.toml, line 1: unknown field `default`",
            ),
            (
                "[defaults]\nmemry = '1g'\n",
                "settings in /x.toml, line 2: unknown field `memry`",
            ),
            (
                "[defaults]\ncpus = 'two'\n",
                "/x.toml, line 2: invalid type",
            ),
            (
                "[defaults]\nplatform = 'moon'\n",
                "/x.toml, defaults.platform: \"moon\"",
            ),
            (
                "[registries.x]\nmirrors = ['ftp://y']\n",
                "must begin with http:// or https://",
            ),
            (
                "[limits]\nparallel-downloads = 0\n",
                "parallel-downloads: must be at least 1",
            ),
            ("a = [\n", "settings in /x.toml, line"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_only_when_it_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Settings::read(&dir.path().join("none.toml")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the settings in"));
    }
}
