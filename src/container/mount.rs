//! `--mount type=…,source=…,target=…`, read as docker reads it.

use std::path::{Path, PathBuf};

use super::record::Bind;
use super::volume::{self, VolumeError};

/// Why a `--mount` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Not of the form.
    #[error("invalid argument {0:?} for --mount, use type=bind|volume|tmpfs,source=…,target=…")]
    Form(String),
    /// An unknown field.
    #[error("invalid argument {spec:?} for --mount: unexpected key {key:?}")]
    Key {
        /// The whole.
        spec: String,
        /// The part.
        key: String,
    },
    /// A value that the field does not take.
    #[error("invalid argument {spec:?} for --mount: invalid value for {key}: {value}")]
    Value {
        /// The whole.
        spec: String,
        /// The field.
        key: String,
        /// Its value.
        value: String,
    },
    /// A type that hull does not have.
    #[error("mount type {0:?} is not there, use bind, volume or tmpfs")]
    Type(String),
    /// A field that is missing or one too many.
    #[error("invalid argument {0:?} for --mount: {1}")]
    Field(String, &'static str),
    /// A bind whose source is missing; `-v` makes it, `--mount` does not.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {0}")]
    NoSource(PathBuf),
    /// A name or path that cannot be.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// What a `--mount` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A directory of the host or a volume.
    Bind(Bind),
    /// A tmpfs: path and mount options.
    Tmpfs(String, String),
}

#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    no_copy: bool,
    tmpfs: Vec<String>,
    of_volume: bool,
    of_bind: bool,
}

/// Parses one `--mount`; relative sources are taken from `here`.
pub fn parse_mount(spec: &str, here: &Path) -> Result<Mount, MountError> {
    let fields = fields(spec)?;
    let wrong = |problem| MountError::Field(spec.to_owned(), problem);
    let target = fields.target.ok_or_else(|| wrong("target is required"))?;
    let kind = fields.kind.unwrap_or_else(|| "volume".to_owned());
    if fields.of_volume && kind != "volume" || fields.of_bind && kind != "bind" {
        return Err(wrong("an option of another type of mount"));
    }
    if !fields.tmpfs.is_empty() && kind != "tmpfs" {
        return Err(wrong("an option of another type of mount"));
    }
    let mut bind = volume::anonymous(spec, &target)?;
    bind.read_only = fields.read_only;
    match (kind.as_str(), fields.source) {
        ("volume", None) => {}
        ("volume", Some(name)) => {
            bind.volume = Some(volume::check_name(&name)?);
            bind.anonymous = false;
        }
        ("bind", None) => return Err(wrong("source is required")),
        ("bind", Some(source)) => {
            let source = volume::normalise(&here.join(source));
            if !source.exists() {
                return Err(MountError::NoSource(source));
            }
            bind.source = source;
            bind.anonymous = false;
            bind.copy_up = false;
        }
        ("tmpfs", None) => {
            let mut options = fields.tmpfs;
            if fields.read_only {
                options.push("ro".to_owned());
            }
            return Ok(Mount::Tmpfs(bind.target, options.join(",")));
        }
        ("tmpfs", Some(_)) => return Err(wrong("a tmpfs has no source")),
        _ => return Err(MountError::Type(kind)),
    }
    if fields.no_copy {
        bind.copy_up = false;
    }
    Ok(Mount::Bind(bind))
}

fn fields(spec: &str) -> Result<Fields, MountError> {
    let mut fields = Fields::default();
    for part in split(spec).ok_or_else(|| MountError::Form(spec.to_owned()))? {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
            None => (part.to_lowercase(), None),
        };
        let flag = || match value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(MountError::Value {
                spec: spec.to_owned(),
                key: key.clone(),
                value: other.to_owned(),
            }),
        };
        match key.as_str() {
            "readonly" | "ro" => fields.read_only = flag()?,
            "volume-nocopy" => {
                fields.no_copy = flag()?;
                fields.of_volume = true;
            }
            // Between a host and a guest there is no propagation, and a share shows what is
            // mounted in it.
            "bind-nonrecursive" => {
                flag()?;
                fields.of_bind = true;
            }
            _ => {
                let value = value.ok_or_else(|| MountError::Form(spec.to_owned()))?;
                fields.set(spec, &key, value)?;
            }
        }
    }
    Ok(fields)
}

impl Fields {
    fn set(&mut self, spec: &str, key: &str, value: String) -> Result<(), MountError> {
        match key {
            "type" => self.kind = Some(value.to_lowercase()),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "tmpfs-size" => self.tmpfs.push(format!("size={value}")),
            "tmpfs-mode" => self.tmpfs.push(format!("mode={value}")),
            "bind-propagation" | "bind-recursive" => self.of_bind = true,
            "consistency" => {}
            "volume-driver" if value == "local" => self.of_volume = true,
            _ => {
                let (spec, key) = (spec.to_owned(), key.to_owned());
                return Err(MountError::Key { spec, key });
            }
        }
        Ok(())
    }
}

/// The fields of a line of comma-separated values; a field in quotes may hold commas.
fn split(spec: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = Some(spec);
    while let Some(text) = rest {
        let field;
        (field, rest) = match text.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => match text.split_once(',') {
                Some((field, rest)) => (field.to_owned(), Some(rest)),
                None => (text.to_owned(), None),
            },
        };
        if field.is_empty() {
            return None;
        }
        fields.push(field);
    }
    Some(fields)
}

/// A field after its opening quote, and what follows the comma after it.
fn quoted_field(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        if let Some(after) = after.strip_prefix('"') {
            // Two quotes stand for one.
            field.push('"');
            rest = after;
        } else if after.is_empty() {
            return Some((field, None));
        } else {
            return after.strip_prefix(',').map(|rest| (field, Some(rest)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bind(spec: &str) -> Bind {
        match parse_mount(spec, Path::new("/")) {
            Ok(Mount::Bind(bind)) => bind,
            other => panic!("{spec}: {other:?}"),
        }
    }

    #[test]
    fn mounts_are_read_as_docker_reads_them() {
        let host = bind("type=bind,src=/etc,dst=/b,readonly,bind-propagation=rslave");
        assert_eq!((host.source.to_str(), host.read_only), (Some("/etc"), true));
        assert!(!host.anonymous && !host.copy_up);
        let named = bind("source=data,target=/d,volume-nocopy=true");
        assert_eq!(
            (named.volume.as_deref(), named.copy_up),
            (Some("data"), false)
        );
        assert!(bind("type=volume,destination=/d").anonymous);
        assert_eq!(bind("type=bind,\"src=/etc\",dst=/a b").target, "/a b");
        assert_eq!(
            parse_mount(
                "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
                Path::new("/")
            )
            .unwrap(),
            Mount::Tmpfs("/t".into(), "size=1m,mode=700".into())
        );
        for bad in [
            "",
            "type=bind",
            "type=bind,target=/x",
            "type=bind,source=/no/such/place,target=/x",
            "type=npipe,source=a,target=/x",
            "type=tmpfs,source=a,target=/x",
            "type=tmpfs,target=/x,volume-nocopy",
            "type=volume,target=/x,tmpfs-size=1m",
            "source=data,target=x",
            "source=da$ta,target=/x",
            "target=/x,readonly=maybe",
            "target=/x,colour=red",
            "target=/x,\"open",
            "target=/",
        ] {
            assert!(parse_mount(bad, Path::new("/")).is_err(), "{bad}");
        }
    }

    #[test]
    fn quoted_fields_hold_commas_and_quotes() {
        let fields = split("a=1,\"b=2,\"\"3\"\"\",c").unwrap();
        assert_eq!(fields, ["a=1", "b=2,\"3\"", "c"]);
        assert_eq!(split("\"a\"b"), None);
        assert_eq!(split("a,,b"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_absolute(spec in "[a-z=,/\". -]{0,40}") {
            if let Ok(Mount::Bind(bind)) = parse_mount(&spec, Path::new("/here")) {
                prop_assert!(bind.target.starts_with('/') && bind.target.len() > 1);
            }
        }
    }
}
