//! `RUN --mount`: what a command sees that no layer keeps.

mod parse;

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_agent::protocol::{ProvidedFile, ProvidedSocket, Share, Tree, TreeSource};
use vmm::DirShare;

pub(super) use parse::{Cache, Kind, Mount, parse};
use parse::{Owner, Sharing};

use super::StageRun;
use crate::build::copy::{self, Options, Placer, Source};
use crate::build::dockerfile::Instruction;
use crate::build::files::{Ignore, ImageTree, find};
use crate::build::guest::Guest;
use crate::build::layer::{Entries, Entry};
use crate::build::ssh::Forwarded;
use crate::build::{BuildError, Builder};
use crate::image::View;
use crate::image::digest::{Digest, HashWriter};
use crate::image::erofs::FileType;
use crate::store::{BuildCache, CacheOwner, DigestLock};

/// Where a directory lies in the tree that is mounted.
const DIRECTORY: &str = "directory";

/// The name of a cache's device in the guest.
fn tag(id: &str) -> String {
    format!("cache-{}", Digest::of(id).short())
}

/// The caches among mounts.
pub(super) fn caches(mounts: &[Mount]) -> Vec<Cache> {
    let caches = mounts.iter().filter_map(|mount| match &mount.kind {
        Kind::Cache(cache) => Some(cache.clone()),
        _ => None,
    });
    caches.collect()
}

/// The secrets among mounts, as the guest gets them.
pub(super) fn files(mounts: &[Mount]) -> Vec<ProvidedFile> {
    let files = mounts.iter().filter_map(|mount| match &mount.kind {
        Kind::Secret { content, owner } => Some(ProvidedFile {
            path: mount.target.clone(),
            content: content.clone(),
            mode: owner.mode,
            uid: owner.uid,
            gid: owner.gid,
        }),
        _ => None,
    });
    files.collect()
}

/// The SSH agents among mounts. Those without a place get docker's.
pub(super) fn sockets(builder: &Builder<'_>, mounts: &mut [Mount]) -> Vec<Forwarded> {
    let mut sockets = Vec::new();
    for mount in mounts {
        let Kind::Ssh { id, owner } = &mount.kind else {
            continue;
        };
        let Some(agent) = builder.options.sources.ssh.get(id) else {
            continue;
        };
        let number = sockets.len();
        if mount.target.is_empty() {
            mount.target = format!("/run/buildkit/ssh_agent.{number}");
        }
        let Owner { mode, uid, gid } = *owner;
        sockets.push(Forwarded {
            socket: ProvidedSocket {
                name: format!("ssh{number}"),
                path: mount.target.clone(),
                mode,
                uid,
                gid,
            },
            agent: agent.clone(),
        });
    }
    sockets
}

/// Waits for the caches that a command wants for itself, and finds it others where somebody has
/// those and it need not be the same.
pub(super) fn lock(
    builder: &Builder<'_>,
    mounts: &mut [Mount],
) -> Result<Vec<DigestLock>, BuildError> {
    let mut wanted: Vec<&mut Cache> = mounts
        .iter_mut()
        .filter_map(|mount| match &mut mount.kind {
            Kind::Cache(cache) if cache.sharing != Sharing::Shared => Some(cache),
            _ => None,
        })
        .collect();
    // Everybody in the same order, so that nobody waits for each other.
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut locks = Vec::new();
    for cache in wanted {
        if let Some(id) = known.get(&cache.id) {
            cache.id.clone_from(id);
            continue;
        }
        let asked = cache.id.clone();
        let digest = |id: &str| Digest::of(format!("build cache {id}"));
        match cache.sharing {
            Sharing::Private => {
                for number in 1.. {
                    if let Some(lock) = builder.store.try_lock_digest(&digest(&cache.id))? {
                        locks.push(lock);
                        break;
                    }
                    cache.id = format!("{asked} {number}");
                }
            }
            _ => locks.push(builder.store.lock_digest(&digest(&cache.id), || {})?),
        }
        known.insert(asked, cache.id.clone());
    }
    Ok(locks)
}

impl StageRun<'_> {
    /// The caches that this stage's commands will want, as far as can be told now, and `also`.
    pub(super) fn host_shares(
        &self,
        also: &[Cache],
    ) -> Result<Vec<(String, DirShare, BuildCache)>, BuildError> {
        let mut wanted: BTreeMap<String, Owner> = also
            .iter()
            .map(|cache| (cache.id.clone(), cache.owner))
            .collect();
        for step in &self.planned.stage.steps {
            let Instruction::Run(run) = &step.instruction else {
                continue;
            };
            for text in &run.mounts {
                let Ok(text) = self.expand(step, text) else {
                    continue;
                };
                let sources = &self.builder.options.sources;
                if let Ok(Some(Mount {
                    kind: Kind::Cache(cache),
                    ..
                })) = parse(&text, &self.state.working_dir(), sources)
                {
                    wanted.entry(cache.id).or_insert(cache.owner);
                }
            }
        }
        let shares = wanted.into_iter().map(|(id, Owner { mode, uid, gid })| {
            let owner = CacheOwner { mode, uid, gid };
            let cache = self.builder.store.build_cache(&Digest::of(&id), owner)?;
            let share = DirShare {
                tag: tag(&id),
                source: cache.path.clone(),
                read_only: false,
            };
            Ok((id, share, cache))
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
        let directory = node.filter(|node| node.meta.kind == FileType::Directory);
        let options = Options {
            place,
            destination: match directory {
                Some(_) => format!("/{DIRECTORY}/"),
                None => "/".to_owned(),
            },
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
        let mut entries = placer.finish();
        if let Some(node) = directory {
            // An empty one was not made.
            let made = entries
                .0
                .entry(DIRECTORY.into())
                .or_insert(Entry::directory(self.builder.options.epoch));
            (made.mode, made.uid, made.gid) = (node.meta.mode, node.meta.uid, node.meta.gid);
            return Ok((entries, DIRECTORY.to_owned()));
        }
        let name = entries.0.keys().next();
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
                let digest = self.tree_digest(from.as_deref(), source)?;
                format!("bind {digest} {writable}")
            }
            Kind::Cache(cache) => match &cache.from {
                None => format!("cache {}", cache.id),
                Some((from, source)) => {
                    let digest = self.tree_digest(Some(from), source)?;
                    format!("cache {} {digest}", cache.id)
                }
            },
            Kind::Tmpfs { .. } => "tmpfs".to_owned(),
            Kind::Secret { .. } => "secret".to_owned(),
            Kind::SecretEnv { name, .. } => format!("secret {name}"),
            Kind::Ssh { .. } => "ssh".to_owned(),
        };
        Ok(format!("{} {kind}", mount.target))
    }

    fn tree_digest(&self, from: Option<&str>, source: &str) -> Result<Digest, BuildError> {
        let (entries, _) = self.bind(from, source)?;
        let mut hash = HashWriter::new(std::io::sink());
        entries
            .write(&mut hash)
            .map_err(|error| BuildError::Io("read the files to mount".to_owned(), error))?;
        Ok(hash.finish().0)
    }

    /// Brings the files of bind mounts, and what new caches begin with, into the guest.
    pub(super) fn bring(
        &self,
        guest: &mut Guest<'_>,
        mounts: &[Mount],
    ) -> Result<(Vec<Tree>, Vec<Share>), BuildError> {
        let (mut trees, mut shares) = (Vec::new(), Vec::new());
        for (number, mount) in mounts.iter().enumerate() {
            let name = format!("bind{number}");
            match &mount.kind {
                Kind::Bind {
                    from,
                    source,
                    writable,
                } => trees.push(Tree {
                    source: self.send_tree(guest, name, from.as_deref(), source)?,
                    destination: mount.target.clone(),
                    read_only: !writable,
                }),
                Kind::Cache(cache) => {
                    let fill = match &cache.from {
                        Some((from, source)) => {
                            Some(self.send_tree(guest, name, Some(from), source)?)
                        }
                        None => None,
                    };
                    shares.push(Share {
                        tag: tag(&cache.id),
                        subpath: None,
                        destination: mount.target.clone(),
                        read_only: false,
                        copy_up: false,
                        fill,
                    });
                }
                _ => {}
            }
        }
        Ok((trees, shares))
    }

    fn send_tree(
        &self,
        guest: &mut Guest<'_>,
        name: String,
        from: Option<&str>,
        source: &str,
    ) -> Result<TreeSource, BuildError> {
        let (entries, subpath) = self.bind(from, source)?;
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
        Ok(TreeSource { name, subpath })
    }
}
