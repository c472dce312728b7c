//! `-v HOST:CONTAINER[:OPTIONS]`, read as docker reads it.

use std::path::{Component, Path, PathBuf};

use super::record::Bind;

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
    /// A name.
    #[error("invalid volume {0:?}: named volumes are not there yet, give a path on the host")]
    Named(String),
}

/// Parses one `-v`; relative host paths starting with a dot are taken from `here`.
pub fn parse_bind(spec: &str, here: &Path) -> Result<Bind, VolumeError> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        [target] if target.starts_with('/') => return Err(VolumeError::Named(spec.to_owned())),
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
    let source = if source.starts_with('/') {
        normalise(Path::new(source))
    } else if source.starts_with('.') {
        normalise(&here.join(source))
    } else if source.contains('/') {
        return Err(VolumeError::RelativeSource(spec.to_owned()));
    } else {
        return Err(VolumeError::Named(spec.to_owned()));
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => read_only = true,
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
    })
}

/// `path` without `.`, `..` and doubled slashes, by its text alone.
fn normalise(path: &Path) -> PathBuf {
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
        };
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
            ("data:/b", VolumeError::Named("data:/b".into())),
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
                prop_assert!(bind.source.is_absolute() && bind.target.starts_with('/'));
                prop_assert!(!bind.target.contains("/../"));
            }
        }
    }
}
