//! `volume create --opt`: a volume whose files are in a directory of the user's.
//!
//! Docker's local driver mounts whatever `type`, `o` and `device` say. A guest cannot be given
//! a mount of the host, only a directory, so what is left is the bind mount.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a volume cannot be as it was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An option that docker's driver does not have either.
    #[error("invalid volume option {0:?}, use type, o and device")]
    Unknown(String),
    /// A file system to mount.
    #[error(
        "volumes of type {0:?} are not there: mount it on the host and use type=none, o=bind and device=PATH"
    )]
    Type(String),
    /// A word in `o`.
    #[error("invalid mount option {0:?} of a volume, use bind, ro or rw")]
    MountOption(String),
    /// The options say nothing.
    #[error("a volume with options needs type=none, o=bind and device=PATH")]
    Incomplete,
    /// Not an absolute path.
    #[error("the device {0:?} of a volume must be an absolute path")]
    Device(String),
}

/// A directory in place of the volume's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub path: PathBuf,
    /// Whether nobody may write there.
    pub read_only: bool,
}

/// Reads the options of a volume; nothing without options.
pub fn read(options: &BTreeMap<String, String>) -> Result<Option<Device>, OptionsError> {
    if options.is_empty() {
        return Ok(None);
    }
    let known = ["type", "o", "device"];
    if let Some(other) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(OptionsError::Unknown(other.clone()));
    }
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    match option("type") {
        "" | "none" | "bind" => {}
        other => return Err(OptionsError::Type(other.to_owned())),
    }
    let (mut bind, mut read_only) = (false, false);
    for word in option("o").split(',').filter(|word| !word.is_empty()) {
        match word {
            "bind" | "rbind" => bind = true,
            "ro" => read_only = true,
            "rw" => read_only = false,
            other => return Err(OptionsError::MountOption(other.to_owned())),
        }
    }
    let device = option("device");
    if !bind || device.is_empty() {
        return Err(OptionsError::Incomplete);
    }
    if !device.starts_with('/') {
        return Err(OptionsError::Device(device.to_owned()));
    }
    Ok(Some(Device {
        path: super::volume::normalise(Path::new(device)),
        read_only,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Device>, OptionsError> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        read(&pairs.iter().map(pair).collect())
    }

    #[test]
    fn directories_are_bound_and_nothing_is_mounted() {
        assert_eq!(of(&[]), Ok(None));
        let device = |read_only| Device {
            path: "/srv/x".into(),
            read_only,
        };
        let options = [("type", "none"), ("o", "bind,ro"), ("device", "/srv/./x/")];
        assert_eq!(of(&options), Ok(Some(device(true))));
        assert_eq!(of(&options[1..]), Ok(Some(device(true))));
        let bind = ("o", "bind");
        assert_eq!(of(&[bind, ("device", "/srv/x")]), Ok(Some(device(false))));
        assert_eq!(of(&[bind]), Err(OptionsError::Incomplete));
        assert_eq!(of(&[("device", "/x")]), Err(OptionsError::Incomplete));
        let device = OptionsError::Device("x".into());
        assert_eq!(of(&[bind, ("device", "x")]), Err(device));
        let nfs = OptionsError::Type("nfs".into());
        assert_eq!(of(&[("type", "nfs"), ("device", ":/x")]), Err(nfs));
        let word = OptionsError::MountOption("suid".into());
        assert_eq!(of(&[("o", "suid"), ("device", "/x")]), Err(word));
        assert_eq!(
            of(&[("size", "1")]),
            Err(OptionsError::Unknown("size".into()))
        );
    }
}
