//! The value of a `RUN --mount`, read.

use std::collections::BTreeMap;

use crate::build::Sources;
use crate::build::dockerfile::suggest;
use crate::build::stage::config;

/// A mount of a command.
#[derive(Debug)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// What is there.
    pub kind: Kind,
}

/// What is mounted.
#[derive(Debug)]
pub enum Kind {
    /// Files of the context, a stage or an image.
    Bind {
        /// The stage or image; the context when not set.
        from: Option<String>,
        /// What of it.
        source: String,
        /// Whether the command may write; nothing of that is kept.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache(Cache),
    /// Memory.
    Tmpfs {
        /// The most bytes.
        size: Option<u64>,
    },
    /// A file that no layer and no log gets.
    Secret {
        /// What is in it.
        content: Vec<u8>,
        /// Who may read it.
        owner: Owner,
    },
    /// A secret as an environment variable, and no file.
    SecretEnv {
        /// The variable.
        name: String,
        /// Its value.
        content: String,
    },
    /// A socket that leads to an SSH agent.
    Ssh {
        /// Which, as `--ssh` calls it.
        id: String,
        /// Who may use it.
        owner: Owner,
    },
}

/// A directory that outlives the build.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Which.
    pub id: String,
    /// Who else may have it meanwhile.
    pub sharing: Sharing,
    /// Owner and permission bits of a new one.
    pub owner: Owner,
    /// The stage or image that a new one begins with, and what of it.
    pub from: Option<(String, String)>,
}

/// How commands that run at the same time share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All have it.
    Shared,
    /// One has it, the others wait.
    Locked,
    /// One has it, the others get another one.
    Private,
}

/// Permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Every key that some kind of mount knows.
const KNOWN: [&str; 19] = [
    "type",
    "target",
    "dst",
    "destination",
    "source",
    "src",
    "from",
    "id",
    "rw",
    "readwrite",
    "ro",
    "readonly",
    "sharing",
    "mode",
    "size",
    "required",
    "env",
    "uid",
    "gid",
];

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Reads the value of a `--mount`; none for a secret or an agent that is not there and need not
/// be.
pub fn parse(text: &str, working_dir: &str, sources: &Sources) -> Result<Option<Mount>, String> {
    let mut fields = Fields::read(text)?;
    let kind = fields.take("type").unwrap_or_else(|| "bind".to_owned());
    let absolute = |target: &str| config::clean(working_dir, target);
    let mount = match kind.as_str() {
        "bind" => Mount {
            target: absolute(&fields.target()?),
            kind: Kind::Bind {
                from: fields.take("from"),
                source: fields.take("source").unwrap_or_else(|| "/".to_owned()),
                writable: fields.truth("rw") && !fields.truth("ro"),
            },
        },
        "cache" => {
            let target = absolute(&fields.target()?);
            let source = fields.take("source");
            let from = fields.take("from");
            // An identity holds for all of a build's platforms, as in docker.
            Mount {
                kind: Kind::Cache(Cache {
                    id: fields.take("id").unwrap_or_else(|| target.clone()),
                    sharing: fields.sharing()?,
                    owner: fields.owner(0o755)?,
                    from: from.map(|from| (from, source.unwrap_or_else(|| "/".to_owned()))),
                }),
                target,
            }
        }
        "tmpfs" => {
            let target = absolute(&fields.target()?);
            let size = fields.take("size").map(|size| size.parse::<u64>());
            let size = size.transpose();
            Mount {
                target,
                kind: Kind::Tmpfs {
                    size: size
                        .map_err(|_| format!("size in --mount={text} is a number of bytes"))?,
                },
            }
        }
        "secret" => match secret(&mut fields, sources, absolute)? {
            Some(mount) => mount,
            None => return Ok(None),
        },
        "ssh" => {
            let id = fields.take("id").unwrap_or_else(|| "default".to_owned());
            let required = fields.truth("required");
            let owner = fields.owner(0o600)?;
            if !sources.ssh.contains_key(&id) {
                return match required {
                    true => Err(format!(
                        "an SSH agent ({id}) is required and was not given, use --ssh {id}"
                    )),
                    false => Ok(None),
                };
            }
            let target = fields.take("target");
            Mount {
                target: target.as_deref().map(absolute).unwrap_or_default(),
                kind: Kind::Ssh { id, owner },
            }
        }
        other => {
            let hint = suggest(other, &KINDS)
                .map_or_else(String::new, |known| format!(" (did you mean {known}?)"));
            return Err(format!("unsupported mount type {other:?}{hint}"));
        }
    };
    if mount.target == "/" {
        return Err(format!("--mount={text} cannot be on /"));
    }
    Ok(Some(mount))
}

fn secret(
    fields: &mut Fields<'_>,
    sources: &Sources,
    absolute: impl Fn(&str) -> String,
) -> Result<Option<Mount>, String> {
    let target = fields.take("target");
    let base = |target: &str| target.rsplit('/').next().unwrap_or(target).to_owned();
    let id = fields
        .take("id")
        .or_else(|| fields.take("source"))
        .or_else(|| target.as_deref().map(base));
    let id = id.ok_or_else(|| format!("--mount={} needs an id=…", fields.text))?;
    let required = fields.truth("required");
    let owner = fields.owner(0o400)?;
    let env = fields.take("env");
    let Some(content) = sources.secrets.get(&id) else {
        return match required {
            true => Err(format!(
                "secret {id} is required and was not given, use --secret id={id},src=FILE"
            )),
            false => Ok(None),
        };
    };
    Ok(Some(match env {
        Some(name) => Mount {
            target: String::new(),
            kind: Kind::SecretEnv {
                name,
                content: String::from_utf8(content.clone())
                    .ok()
                    .filter(|text| !text.contains('\0'))
                    .ok_or_else(|| {
                        format!("secret {id} is not text, which is all that a variable can hold")
                    })?,
            },
        },
        None => Mount {
            target: absolute(&target.unwrap_or_else(|| format!("/run/secrets/{id}"))),
            kind: Kind::Secret {
                content: content.clone(),
                owner,
            },
        },
    }))
}

/// The pairs of a `--mount`.
struct Fields<'a> {
    text: &'a str,
    pairs: BTreeMap<&'static str, String>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let mut pairs = BTreeMap::new();
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').unwrap_or((field, "true"));
            let name = match name {
                "dst" | "destination" => "target",
                "src" => "source",
                "readwrite" => "rw",
                "readonly" => "ro",
                name => name,
            };
            let Some(name) = KNOWN.iter().find(|known| **known == name) else {
                let hint = suggest(name, &KNOWN)
                    .map_or_else(String::new, |known| format!(" (did you mean {known}?)"));
                return Err(format!("unexpected key {name:?} in --mount={text}{hint}"));
            };
            pairs.insert(*name, value.to_owned());
        }
        Ok(Self { text, pairs })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.pairs.remove(name)
    }

    fn target(&mut self) -> Result<String, String> {
        let target = self.take("target");
        target.ok_or_else(|| format!("--mount={} needs a target=…", self.text))
    }

    fn truth(&mut self, name: &str) -> bool {
        let value = self.take(name);
        value.is_some_and(|value| value != "false" && value != "0")
    }

    fn sharing(&mut self) -> Result<Sharing, String> {
        match self.take("sharing").as_deref() {
            None | Some("shared") => Ok(Sharing::Shared),
            Some("locked") => Ok(Sharing::Locked),
            Some("private") => Ok(Sharing::Private),
            Some(other) => Err(format!(
                "unsupported sharing {other:?}, it is shared, private or locked"
            )),
        }
    }

    /// `mode`, `uid` and `gid`.
    fn owner(&mut self, mode: u32) -> Result<Owner, String> {
        let text = self.text;
        let mode = match self.take("mode") {
            None => mode,
            Some(value) => u32::from_str_radix(&value, 8)
                .map(|mode| mode & 0o7777)
                .map_err(|_| format!("invalid mode {value:?} in --mount={text}"))?,
        };
        let mut id = |name: &str| match self.take(name) {
            None => Ok(0),
            Some(value) => value
                .parse::<u32>()
                .map_err(|_| format!("{name} in --mount={text} is a number, not {value:?}")),
        };
        Ok(Owner {
            mode,
            uid: id("uid")?,
            gid: id("gid")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sources() -> Sources {
        Sources {
            secrets: BTreeMap::from([
                ("token".to_owned(), b"s3cret".to_vec()),
                ("key".to_owned(), vec![0, 255]),
            ]),
            ssh: BTreeMap::from([("default".to_owned(), "/agent".into())]),
        }
    }

    #[test]
    fn mounts_are_read_and_mistakes_named() {
        let sources = sources();
        let read = |text: &str| parse(text, "/w", &sources);
        let mount = read("type=cache,target=pip,id=x,sharing=locked,uid=1,gid=2,mode=0700")
            .unwrap()
            .unwrap();
        assert_eq!(mount.target, "/w/pip");
        let owner = Owner {
            mode: 0o700,
            uid: 1,
            gid: 2,
        };
        let Kind::Cache(cache) = mount.kind else {
            panic!("{mount:?}")
        };
        assert_eq!((cache.sharing, cache.owner), (Sharing::Locked, owner));
        let mount = read("type=cache,dst=/c,from=a,src=/d").unwrap().unwrap();
        assert!(
            matches!(mount.kind, Kind::Cache(Cache { from: Some((a, d)), .. }) if a == "a" && d == "/d")
        );
        let mount = read("from=build,src=/a,dst=/b,rw").unwrap().unwrap();
        assert!(matches!(mount.kind, Kind::Bind { writable: true, .. }));
        let mount = read("type=secret,id=token").unwrap().unwrap();
        assert_eq!(mount.target, "/run/secrets/token");
        assert!(read("type=secret,id=key").unwrap().is_some());
        assert!(read("type=secret,id=other").unwrap().is_none());
        assert!(read("type=ssh,id=other").unwrap().is_none());
        let mount = read("type=ssh").unwrap().unwrap();
        assert!(matches!(
            mount.kind,
            Kind::Ssh {
                owner: Owner { mode: 0o600, .. },
                ..
            }
        ));
        for (text, message) in [
            ("type=secret,id=other,required", "is required"),
            ("type=secret,id=key,env=KEY", "is not text"),
            ("type=ssh,id=other,required", "use --ssh other"),
            ("type=cahce,target=/x", "did you mean cache?"),
            ("type=cache", "needs a target"),
            ("type=cache,target=/", "cannot be on /"),
            ("type=cache,target=/x,uid=root", "is a number"),
            ("type=bind,traget=/x", "did you mean target?"),
            ("type=tmpfs,target=/x,size=big", "a number of bytes"),
            ("type=cache,target=/x,mode=9", "invalid mode"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(type|target|id|from|=|,|cache|ssh|secret|bind|/|[a-z0-9é]){0,12}") {
            if let Ok(Some(mount)) = parse(&text, "/w", &sources()) {
                prop_assert!(mount.target.is_empty() || mount.target.starts_with('/'));
            }
        }
    }
}
