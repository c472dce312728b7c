//! `RUN --mount`: what a command sees that no layer keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_agent::protocol::{Share, Tree};
use vmm::DirShare;

use super::{StageRun, config};
use crate::build::copy::{self, Options, Placer, Source};
use crate::build::dockerfile::Instruction;
use crate::build::files::{Ignore, ImageTree, find};
use crate::build::guest::Guest;
use crate::build::layer::Entries;
use crate::build::{BuildError, Builder};
use crate::image::View;
use crate::image::digest::{Digest, HashWriter};
use crate::image::erofs::FileType;
use crate::store::DigestLock;

/// A mount of a command.
#[derive(Debug)]
pub(super) struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// What is there.
    pub kind: Kind,
}

/// What is mounted.
#[derive(Debug)]
pub(super) enum Kind {
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
    Cache {
        /// Which.
        id: String,
        /// Whether others have to wait meanwhile.
        alone: bool,
        /// Permission bits of a new one.
        mode: u32,
    },
    /// Memory.
    Tmpfs {
        /// The most bytes.
        size: Option<u64>,
    },
    /// A file that no layer and no log gets.
    Secret {
        /// What is in it.
        content: String,
        /// Permission bits.
        mode: u32,
    },
    /// A secret as an environment variable, and no file.
    SecretEnv {
        /// The variable.
        name: String,
        /// Its value.
        content: String,
    },
}

/// Reads the value of a `--mount`; none for a secret that is not there and need not be.
pub(super) fn parse(
    text: &str,
    working_dir: &str,
    secrets: &BTreeMap<String, Vec<u8>>,
) -> Result<Option<Mount>, String> {
    const KNOWN: [&str; 18] = [
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
    ];
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    for field in text.split(',').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, "true"));
        let name = match name {
            "dst" | "destination" => "target",
            "src" => "source",
            "readwrite" => "rw",
            "readonly" => "ro",
            "gid" => "uid",
            name => name,
        };
        let Some(name) = KNOWN.iter().find(|known| **known == name) else {
            let hint = crate::build::dockerfile::suggest(name, &KNOWN)
                .map_or_else(String::new, |known| format!(" (did you mean {known}?)"));
            return Err(format!("unexpected key {name:?} in --mount={text}{hint}"));
        };
        fields.insert(name, value.to_owned());
    }
    let kind = fields.remove("type").unwrap_or_else(|| "bind".to_owned());
    let target = fields.remove("target");
    let absolute = |target: &str| config::clean(working_dir, target);
    let needs_target = || format!("--mount={text} needs a target=…");
    let is_true =
        |value: Option<String>| value.is_some_and(|value| value != "false" && value != "0");
    let octal = |value: Option<String>, other: u32| match value {
        None => Ok(other),
        Some(value) => u32::from_str_radix(&value, 8)
            .map(|mode| mode & 0o7777)
            .map_err(|_| format!("invalid mode {value:?} in --mount={text}")),
    };
    if fields.remove("uid").is_some_and(|id| id != "0") {
        return Err(format!(
            "uid and gid in --mount={text} are not there yet, use mode=…"
        ));
    }
    let mount = match kind.as_str() {
        "bind" => Mount {
            target: absolute(&target.ok_or_else(needs_target)?),
            kind: Kind::Bind {
                from: fields.remove("from"),
                source: fields.remove("source").unwrap_or_else(|| "/".to_owned()),
                writable: is_true(fields.remove("rw")),
            },
        },
        "cache" => {
            if fields.contains_key("from") {
                return Err(format!(
                    "from in --mount={text} is not there yet, fill the cache in a RUN"
                ));
            }
            let target = absolute(&target.ok_or_else(needs_target)?);
            let alone = match fields.remove("sharing").as_deref() {
                None | Some("shared") => false,
                Some("locked" | "private") => true,
                Some(other) => {
                    return Err(format!(
                        "unsupported sharing {other:?}, it is shared, private or locked"
                    ));
                }
            };
            Mount {
                kind: Kind::Cache {
                    id: fields.remove("id").unwrap_or_else(|| target.clone()),
                    alone,
                    mode: octal(fields.remove("mode"), 0o755)?,
                },
                target,
            }
        }
        "tmpfs" => {
            let size = fields.remove("size");
            let size = size.map(|size| size.parse::<u64>()).transpose();
            Mount {
                target: absolute(&target.ok_or_else(needs_target)?),
                kind: Kind::Tmpfs {
                    size: size
                        .map_err(|_| format!("size in --mount={text} is a number of bytes"))?,
                },
            }
        }
        "secret" => {
            let base = |target: &str| target.rsplit('/').next().unwrap_or(target).to_owned();
            let id = fields.remove("id").or_else(|| target.as_deref().map(base));
            let id = id.ok_or_else(|| format!("--mount={text} needs an id=…"))?;
            let required = is_true(fields.remove("required"));
            let env = fields.remove("env");
            let Some(content) = secrets.get(&id) else {
                return match required {
                    true => Err(format!(
                        "secret {id} is required and was not given, use --secret id={id},src=FILE"
                    )),
                    false => Ok(None),
                };
            };
            let content = String::from_utf8(content.clone()).map_err(|_| {
                format!("secret {id} is not text, which is all that hull passes on")
            })?;
            match env {
                Some(name) => Mount {
                    target: String::new(),
                    kind: Kind::SecretEnv { name, content },
                },
                None => Mount {
                    target: absolute(&target.unwrap_or_else(|| format!("/run/secrets/{id}"))),
                    kind: Kind::Secret {
                        content,
                        mode: octal(fields.remove("mode"), 0o400)?,
                    },
                },
            }
        }
        "ssh" => return Err("--mount=type=ssh is not there yet, use a secret".to_owned()),
        other => {
            let known = ["bind", "cache", "tmpfs", "secret", "ssh"];
            let hint = crate::build::dockerfile::suggest(other, &known)
                .map_or_else(String::new, |known| format!(" (did you mean {known}?)"));
            return Err(format!("unsupported mount type {other:?}{hint}"));
        }
    };
    if mount.target == "/" {
        return Err(format!("--mount={text} cannot be on /"));
    }
    Ok(Some(mount))
}

/// The name of a cache's device in the guest.
fn tag(id: &str) -> String {
    format!("cache-{}", Digest::of(id).short())
}

/// The caches among mounts, as the guest mounts them.
pub(super) fn shares(mounts: &[Mount]) -> Vec<Share> {
    let caches = mounts.iter().filter_map(|mount| match &mount.kind {
        Kind::Cache { id, .. } => Some(Share {
            tag: tag(id),
            subpath: None,
            destination: mount.target.clone(),
            read_only: false,
            copy_up: false,
        }),
        _ => None,
    });
    caches.collect()
}

/// The ids of the caches among mounts.
pub(super) fn caches(mounts: &[Mount]) -> Vec<(String, u32)> {
    let caches = mounts.iter().filter_map(|mount| match &mount.kind {
        Kind::Cache { id, mode, .. } => Some((id.clone(), *mode)),
        _ => None,
    });
    caches.collect()
}

/// Waits for the caches that a command wants for itself.
pub(super) fn lock(builder: &Builder<'_>, mounts: &[Mount]) -> Result<Vec<DigestLock>, BuildError> {
    let mut ids: Vec<&String> = mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            Kind::Cache {
                id, alone: true, ..
            } => Some(id),
            _ => None,
        })
        .collect();
    // Everybody in the same order, so that nobody waits for each other.
    ids.sort();
    ids.dedup();
    let locks = ids.into_iter().map(|id| {
        let digest = Digest::of(format!("build cache {id}"));
        Ok(builder.store.lock_digest(&digest, || {})?)
    });
    locks.collect()
}

impl StageRun<'_> {
    /// The caches that this stage's commands will want, as far as can be told now, and `also`.
    pub(super) fn host_shares(
        &self,
        also: &[(String, u32)],
    ) -> Result<Vec<(String, DirShare)>, BuildError> {
        let mut wanted: BTreeMap<String, u32> = also.iter().cloned().collect();
        for step in &self.planned.stage.steps {
            let Instruction::Run(run) = &step.instruction else {
                continue;
            };
            for text in &run.mounts {
                let Ok(text) = self.expand(step, text) else {
                    continue;
                };
                let secrets = &self.builder.options.secrets;
                if let Ok(Some(mount)) = parse(&text, &self.state.working_dir(), secrets) {
                    wanted.extend(caches(&[mount]));
                }
            }
        }
        let shares = wanted.into_iter().map(|(id, mode)| {
            let source = self.builder.store.build_cache(&Digest::of(&id), mode)?;
            let share = DirShare {
                tag: tag(&id),
                source,
                read_only: false,
            };
            Ok((id, share))
        });
        shares.collect()
    }

    /// The files of a bind mount as a tree, and what of the tree is meant.
    pub(super) fn bind(
        &self,
        from: Option<&str>,
        source: &str,
    ) -> Result<(Entries, String), BuildError> {
        let (tree, place) = match from {
            None => (
                Arc::clone(&self.builder.options.context),
                "the build context".to_owned(),
            ),
            Some(from) => (self.source(from)?, format!("{from:?}")),
        };
        let node = find(&*tree, source.as_bytes())?;
        let is_file = node.is_some_and(|node| node.meta.kind != FileType::Directory);
        let options = Options {
            place,
            destination: "/".to_owned(),
            working_dir: "/".to_owned(),
            mode: None,
            exclude: Ignore::default(),
            parents: false,
            unpack: false,
        };
        let empty = ImageTree(Arc::new(View::empty()));
        let mut placer = Placer::new(Some(&empty), None, self.builder.options.epoch);
        let sources = [Source::Path(tree, source.to_owned())];
        copy::copy(&mut placer, &sources, &options, &|| {
            Err(std::io::ErrorKind::Unsupported.into())
        })?;
        let entries = placer.finish();
        let name = entries.0.keys().next().filter(|_| is_file);
        let subpath = name.map(|name| String::from_utf8_lossy(name).into_owned());
        Ok((entries, subpath.unwrap_or_default()))
    }

    /// What the result of a command depends on of a mount.
    pub(super) fn mount_key(&self, mount: &Mount) -> Result<String, BuildError> {
        let kind = match &mount.kind {
            Kind::Bind {
                from,
                source,
                writable,
            } => {
                let (entries, _) = self.bind(from.as_deref(), source)?;
                let mut hash = HashWriter::new(std::io::sink());
                entries
                    .write(&mut hash)
                    .map_err(|error| BuildError::Io("read the files to mount".to_owned(), error))?;
                format!("bind {} {writable}", hash.finish().0)
            }
            Kind::Cache { id, .. } => format!("cache {id}"),
            Kind::Tmpfs { .. } => "tmpfs".to_owned(),
            Kind::Secret { .. } => "secret".to_owned(),
            Kind::SecretEnv { name, .. } => format!("secret {name}"),
        };
        Ok(format!("{} {kind}", mount.target))
    }

    /// Brings the files of bind mounts into the guest.
    pub(super) fn bring(
        &self,
        guest: &mut Guest<'_>,
        mounts: &[Mount],
    ) -> Result<Vec<Tree>, BuildError> {
        let mut trees = Vec::new();
        for (number, mount) in mounts.iter().enumerate() {
            let Kind::Bind {
                from,
                source,
                writable,
            } = &mount.kind
            else {
                continue;
            };
            let (entries, subpath) = self.bind(from.as_deref(), source)?;
            let name = format!("bind{number}");
            let failed = |error| BuildError::Io("read the files to mount".to_owned(), error);
            let (mut reader, writer) = std::io::pipe().map_err(failed)?;
            std::thread::scope(|scope| {
                let writing = scope.spawn(|| entries.write(writer));
                let filled = guest.fill(&name, &mut reader);
                drop(reader);
                match writing.join() {
                    Ok(Err(error)) if filled.is_ok() => Err(failed(error)),
                    Ok(_) => Ok(filled?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            })?;
            trees.push(Tree {
                name,
                subpath,
                destination: mount.target.clone(),
                read_only: !writable,
            });
        }
        Ok(trees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_and_mistakes_named() {
        let secrets = BTreeMap::from([("token".to_owned(), b"s3cret".to_vec())]);
        let read = |text: &str| parse(text, "/w", &secrets);
        let mount = read("type=cache,target=pip,id=x,sharing=locked")
            .unwrap()
            .unwrap();
        assert_eq!(mount.target, "/w/pip");
        assert!(matches!(mount.kind, Kind::Cache { alone: true, .. }));
        let mount = read("from=build,src=/a,dst=/b,rw").unwrap().unwrap();
        assert!(matches!(mount.kind, Kind::Bind { writable: true, .. }));
        let mount = read("type=secret,id=token").unwrap().unwrap();
        assert_eq!(mount.target, "/run/secrets/token");
        assert!(read("type=secret,id=other").unwrap().is_none());
        for (text, message) in [
            ("type=secret,id=other,required", "is required"),
            ("type=cahce,target=/x", "did you mean cache?"),
            ("type=cache", "needs a target"),
            ("type=cache,target=/", "cannot be on /"),
            ("type=bind,traget=/x", "did you mean target?"),
            ("type=ssh", "not there yet"),
            ("type=tmpfs,target=/x,size=big", "a number of bytes"),
            ("type=cache,target=/x,mode=9", "invalid mode"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
