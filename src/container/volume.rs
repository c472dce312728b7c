//! `-v SOURCE:CONTAINER[:OPTIONS]` and volumes, read as docker reads them.

use std::path::{Component, Path, PathBuf};

use super::lifecycle::{self, LifecycleError};
use super::record::Bind;
use crate::store::Store;

/// Why a `-v` cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// Not of the form.
    #[error("invalid volume {0:?}, use HOST-PATH:CONTAINER-PATH[:ro]")]
    Form(String),
    /// A relative path in the container.
    #[error("invalid volume {0:?}: the path in the container must be absolute")]
    RelativeTarget(String),
    /// `/` in the container.
    #[error("invalid volume {0:?}: the container's root cannot be replaced")]
    RootTarget(String),
    /// A relative path on the host.
    #[error("invalid volume {0:?}: the path on the host must be absolute or start with ./")]
    RelativeSource(String),
    /// An option that there is not.
    #[error("invalid volume {spec:?}: unknown option {option:?}, use ro or rw")]
    Option {
        /// The whole.
        spec: String,
        /// The part.
        option: String,
    },
    /// A bad name.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; if you intended to pass a host directory, use an absolute path"
    )]
    Name(String),
}

/// Why another container's volumes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// An option that there is not.
    #[error("invalid mode for --volumes-from: {0:?}, use ro or rw")]
    Mode(String),
    /// The other container cannot be found.
    #[error(transparent)]
    Container(#[from] LifecycleError),
}

/// Parses one `-v`; relative host paths starting with a dot are taken from `here`.
pub fn parse_bind(spec: &str, here: &Path) -> Result<Bind, VolumeError> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        [target] if target.starts_with('/') => return anonymous(spec, target),
        _ => return Err(VolumeError::Form(spec.to_owned())),
    };
    if source.is_empty() || target.is_empty() {
        return Err(VolumeError::Form(spec.to_owned()));
    }
    if !target.starts_with('/') {
        return Err(VolumeError::RelativeTarget(spec.to_owned()));
    }
    let target = normalise(Path::new(target));
    if target == Path::new("/") {
        return Err(VolumeError::RootTarget(spec.to_owned()));
    }
    let mut volume = None;
    let source = if source.starts_with('/') {
        normalise(Path::new(source))
    } else if source.starts_with('.') {
        normalise(&here.join(source))
    } else if source.contains('/') {
        return Err(VolumeError::RelativeSource(spec.to_owned()));
    } else {
        volume = Some(check_name(source)?);
        PathBuf::new()
    };
    let mut copy_up = volume.is_some();
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => read_only = true,
            "nocopy" if volume.is_some() => copy_up = false,
            // Propagation and SELinux labels mean nothing between a host and a guest.
            "rw" | "z" | "Z" | "rprivate" | "private" | "cached" | "delegated" | "consistent" => {}
            _ => {
                let (spec, option) = (spec.to_owned(), option.to_owned());
                return Err(VolumeError::Option { spec, option });
            }
        }
    }
    Ok(Bind {
        source,
        target: target.to_string_lossy().into_owned(),
        read_only,
        volume,
        copy_up,
        anonymous: false,
    })
}

/// A volume without a name at `target`; it gets one when the container is made.
pub fn anonymous(spec: &str, target: &str) -> Result<Bind, VolumeError> {
    if !target.starts_with('/') {
        return Err(VolumeError::RelativeTarget(spec.to_owned()));
    }
    let target = normalise(Path::new(target));
    if target == Path::new("/") {
        return Err(VolumeError::RootTarget(spec.to_owned()));
    }
    Ok(Bind {
        target: target.to_string_lossy().into_owned(),
        anonymous: true,
        copy_up: true,
        ..Bind::default()
    })
}

/// `--volumes-from CONTAINER[:ro|rw]`: what those containers have mounted, where nothing else
/// is.
pub fn inherit(store: &Store, specs: &[String], binds: &mut Vec<Bind>) -> Result<(), InheritError> {
    for spec in specs {
        let (name, mode) = spec.split_once(':').unwrap_or((spec, ""));
        let read_only = match mode {
            "" | "rw" | "z" | "Z" => false,
            "ro" => true,
            mode => return Err(InheritError::Mode(mode.to_owned())),
        };
        for bind in lifecycle::find(store, name)?.config.binds {
            if binds.iter().all(|other| other.target != bind.target) {
                binds.push(Bind {
                    read_only: bind.read_only || read_only,
                    ..bind
                });
            }
        }
    }
    Ok(())
}

/// A name of a volume.
pub fn check_name(name: &str) -> Result<String, VolumeError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && (2..=255).contains(&name.len()) {
        return Ok(name.to_owned());
    }
    Err(VolumeError::Name(name.chars().take(260).collect()))
}

/// `path` without `.`, `..` and doubled slashes, by its text alone.
pub fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        let here = Path::new("/home/me");
        let bind = |source: &str, target: &str, read_only| Bind {
            source: source.into(),
            target: target.into(),
            read_only,
            ..Bind::default()
        };
        let named = parse_bind("data:/b:nocopy", here).unwrap();
        assert_eq!(
            (named.volume.as_deref(), named.copy_up),
            (Some("data"), false)
        );
        assert!(parse_bind("/data", here).unwrap().anonymous);
        assert_eq!(parse_bind("/a:/b", here), Ok(bind("/a", "/b", false)));
        assert_eq!(
            parse_bind("/a/../c:/b/:ro", here),
            Ok(bind("/c", "/b", true))
        );
        assert_eq!(
            parse_bind("./x:/b:rw,z", here),
            Ok(bind("/home/me/x", "/b", false))
        );
        assert_eq!(parse_bind("..:/b", here), Ok(bind("/home", "/b", false)));
        for (spec, want) in [
            ("/a:b", VolumeError::RelativeTarget("/a:b".into())),
            ("/a:/", VolumeError::RootTarget("/a:/".into())),
            ("/a:/b/..", VolumeError::RootTarget("/a:/b/..".into())),
            ("d$ta:/b", VolumeError::Name("d$ta".into())),
            ("a/b:/b", VolumeError::RelativeSource("a/b:/b".into())),
            ("", VolumeError::Form(String::new())),
            (":", VolumeError::Form(":".into())),
            ("/a:/b:ro:x", VolumeError::Form("/a:/b:ro:x".into())),
        ] {
            assert_eq!(parse_bind(spec, here), Err(want));
        }
        assert!(matches!(
            parse_bind("/a:/b:rx", here),
            Err(VolumeError::Option { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_absolute(spec in ".{0,40}") {
            if let Ok(bind) = parse_bind(&spec, Path::new("/here")) {
                let named = bind.volume.is_some() || bind.anonymous;
                prop_assert!((bind.source.is_absolute() || named) && bind.target.starts_with('/'));
                prop_assert!(!bind.target.contains("/../"));
            }
        }
    }
}
