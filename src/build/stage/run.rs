//! `RUN`: from the cache, or in the stage's guest.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Instant;

use guest_agent::protocol::ProvidedFile;
use serde_json::json;

use super::mounts::{self, Cache, Kind, Mount};
use super::{PROXIES, StageRun, State};
use crate::build::BuildError;
use crate::build::dockerfile::{self, Network, Run, Step};
use crate::build::guest::{Command, Guest, GuestFailure};
use crate::build::report::Event;
use crate::build::ssh::Forwarded;
use crate::container::guest::GuestError;
use crate::container::record::Config;
use crate::image::convert::{self, Expected};
use crate::image::digest::Digest;
use crate::store::BuildCache;

/// Copies larger than this are not sent to a running guest: booting another one is quicker.
const MAX_SENT: u64 = 64 << 20;

/// The stage's guest and the layers that it has.
pub(super) struct Vm<'a> {
    guest: Guest<'a>,
    /// Whether it has no network.
    offline: bool,
    layers: Vec<Digest>,
    /// Caches that it can mount.
    caches: Vec<String>,
    _held: Vec<BuildCache>,
}

/// What a `RUN` is, worked out.
struct Planned {
    argv: Vec<String>,
    /// Build arguments that the command sees.
    arguments: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    /// A script that stands in the Dockerfile and has an interpreter of its own.
    script: Option<String>,
}

/// Where such a script is.
const SCRIPT: &str = "/dev/pipes/script";

impl<'a> StageRun<'a> {
    pub(super) fn run(&mut self, step: &Step, run: &Run, began: Instant) -> Result<(), BuildError> {
        if run.network == Network::Host {
            let message = "--network=host is not there: a RUN step has a machine of its own";
            return Err(self.mistake(step.span, message).into());
        }
        let mut planned = self.plan_run(step, run)?;
        let mut created_by = String::from("RUN ");
        if !planned.arguments.is_empty() {
            created_by.push_str(&format!("|{} ", planned.arguments.len()));
            for (name, value) in &planned.arguments {
                created_by.push_str(&format!("{name}={value} "));
            }
        }
        created_by.push_str(&planned.argv.join(" "));
        let key = self.key(&planned, run)?;
        // Two builds at once run a step once.
        let _lock = self.builder.store.lock_digest(&key, || {})?;
        if let Some(image) = self.builder.cached(&key, self.planned.index)? {
            let id = image.id;
            self.builder.note_image(&id, false);
            self.state = State::of(&image)?;
            self.builder.note_step(&key, &id);
            self.tell(Event::Cached);
            self.tell(Event::Done(&id, began.elapsed()));
            return Ok(());
        }
        let _caches = mounts::lock(self.builder, &mut planned.mounts)?;
        let agents = mounts::sockets(self.builder, &mut planned.mounts);
        let command = self.guest_config(&planned, &agents);
        let offline = run.network == Network::None || self.builder.options.offline;
        let caches = mounts::caches(&planned.mounts);
        let mut vm = self.prepare_guest(&command, &caches, offline)?;
        if let Some(warning) = vm.guest.take_warning() {
            self.tell(Event::Note(&warning));
        }
        self.tell(Event::Running);
        let (trees, shares) = self.bring(&mut vm.guest, &planned.mounts)?;
        let mut files = mounts::files(&planned.mounts);
        let script = planned.script.iter();
        files.extend(script.map(|content| provided(SCRIPT, content, 0o755)));
        let (report, index, stages) = (self.builder.report, self.planned.index, self.stages);
        let ran = vm.guest.run(
            Command {
                config: &command,
                architecture: &self.state.platform.architecture,
                files,
                shares,
                trees,
                agents,
            },
            |stream| stages.watch(stream),
            |bytes| report.event(index, Event::Output(bytes)),
        );
        self.stages.check()?;
        let code = ran.map_err(|error| match error {
            GuestFailure::Guest(refused @ GuestError::Refused(_)) => BuildError::Refused {
                code: refused.exit_code(),
                command: planned.argv.join(" "),
                why: refused.to_string(),
                image: self.state.id,
            },
            error => error.into(),
        })?;
        if code != 0 {
            return Err(BuildError::Command {
                command: planned.argv.join(" "),
                code,
                image: self.state.id,
            });
        }
        let builder = self.builder;
        let mounted = planned.mounts.iter().map(|mount| mount.target.clone());
        let stubs = mounted.filter(|target| !target.is_empty()).collect();
        let mut output = vm.guest.layer(builder.options.epoch, stubs)?;
        let limits = convert::limits(&builder.settings.limits);
        let added = convert::add_layer(
            builder.store,
            builder.lease,
            &limits,
            &mut output,
            Expected::default(),
        );
        // What the agent says explains an archive that ended too early.
        output.finish().map_err(GuestFailure::from)?;
        let added = added?;
        vm.layers.push(added.layer.diff_id);
        self.vm = Some(vm);
        self.finish(created_by, Some(added), Some(key), began)?;
        if let Some(id) = &self.state.id {
            builder.note_step(&key, id);
        }
        Ok(())
    }

    fn plan_run(&self, step: &Step, run: &Run) -> Result<Planned, BuildError> {
        let wrong = |message: String| self.mistake(step.span, message);
        let mut script = None;
        let argv = match (&run.command, run.heredocs.as_slice()) {
            (dockerfile::Command::Exec(words), _) if words.is_empty() => {
                return Err(wrong("RUN requires a command".to_owned()).into());
            }
            (dockerfile::Command::Exec(words), _) => words.clone(),
            (dockerfile::Command::Shell(line), []) => self.in_shell(line.clone()),
            (dockerfile::Command::Shell(line), [only]) if is_heredoc(line) => {
                if only.content.starts_with("#!") {
                    script = Some(only.content.clone());
                    vec![SCRIPT.to_owned()]
                } else {
                    self.in_shell(only.content.clone())
                }
            }
            (dockerfile::Command::Shell(line), heredocs) => {
                // The shell reads them itself.
                let mut text = format!("{line}\n");
                for heredoc in heredocs {
                    text.push_str(&format!("{}{}\n", heredoc.content, heredoc.name));
                }
                self.in_shell(text)
            }
        };
        let env: Vec<String> = self.state.list("Env");
        let in_env = |name: &str| env.iter().any(|it| it.split('=').next() == Some(name));
        let arguments = self.arguments.iter().filter(|(name, _)| !in_env(name));
        let mut mounts = Vec::new();
        for text in &run.mounts {
            let text = self.expand(step, text)?;
            let mount = mounts::parse(
                &text,
                &self.state.working_dir(),
                &self.builder.options.sources,
            );
            mounts.extend(mount.map_err(wrong)?);
        }
        Ok(Planned {
            argv,
            arguments: arguments.map(|(a, b)| (a.clone(), b.clone())).collect(),
            mounts,
            script,
        })
    }

    fn in_shell(&self, line: String) -> Vec<String> {
        let mut words = self.shell();
        words.push(line);
        words
    }

    /// Everything that the result depends on, as far as the builder can know; secrets and what
    /// is in caches do not count, as in docker.
    fn key(&self, planned: &Planned, run: &Run) -> Result<Digest, BuildError> {
        let mounts = planned.mounts.iter().map(|mount| self.mount_key(mount));
        let mounts: Vec<String> = mounts.collect::<Result<_, _>>()?;
        let key = json!({
            "version": 1,
            "parent": self.state.id,
            "argv": planned.argv,
            "script": planned.script,
            "arguments": planned.arguments,
            "mounts": mounts,
            "offline": run.network == Network::None || self.builder.options.offline,
            "epoch": self.builder.options.epoch,
        });
        Ok(Digest::of(key.to_string()))
    }

    fn guest_config(&self, planned: &Planned, agents: &[Forwarded]) -> Config {
        let mut env = self.state.list("Env");
        for (name, value) in &planned.arguments {
            env.push(format!("{name}={value}"));
        }
        for name in PROXIES {
            if let Some(value) = self.builder.argument(name) {
                env.push(format!("{name}={value}"));
            }
        }
        if let Some(agent) = agents.first() {
            env.push(format!("SSH_AUTH_SOCK={}", agent.socket.path));
        }
        let has = |env: &[String], name: &str| env.iter().any(|it| it.starts_with(name));
        if !has(&env, "SOURCE_DATE_EPOCH=") {
            env.push(format!("SOURCE_DATE_EPOCH={}", self.builder.options.epoch));
        }
        let mut config = self.builder.options.guest.clone();
        config.cmd = planned.argv.clone();
        config.env = env;
        config.working_dir = self.state.working_dir();
        config.user = match self.state.text("User").as_str() {
            "" => "0".to_owned(),
            user => user.to_owned(),
        };
        // The same for everybody: it may end up in a file.
        "build".clone_into(&mut config.hostname);
        config.platform = self.state.platform.to_string();
        for mount in &planned.mounts {
            match &mount.kind {
                Kind::Tmpfs { size } => {
                    let options = size.map_or_else(String::new, |size| format!(",size={size}"));
                    config
                        .tmpfs
                        .insert(mount.target.clone(), format!("exec{options}"));
                }
                Kind::SecretEnv { name, content } => config.env.push(format!("{name}={content}")),
                _ => {}
            }
        }
        config
    }

    /// A guest whose layers are the state's, with these caches.
    fn prepare_guest(
        &mut self,
        config: &Config,
        caches: &[Cache],
        offline: bool,
    ) -> Result<Vm<'a>, BuildError> {
        if let Some(mut vm) = self.vm.take()
            && vm.offline == offline
            && caches.iter().all(|cache| vm.caches.contains(&cache.id))
            && self.catch_up(&mut vm)?
        {
            return Ok(vm);
        }
        let layers = match &self.state.id {
            Some(id) => self.builder.load(id)?.layer_files(self.builder.store)?,
            None => Vec::new(),
        };
        let (mut ids, mut shares, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for (id, share, cache) in self.host_shares(caches)? {
            ids.push(id);
            shares.push(share);
            held.push(cache);
        }
        let (store, platform) = (self.builder.store, &self.state.platform);
        Ok(Vm {
            guest: Guest::boot(store, config, platform, layers, shares, offline)?,
            offline,
            layers: self
                .state
                .layers
                .iter()
                .map(|(diff_id, _)| *diff_id)
                .collect(),
            caches: ids,
            _held: held,
        })
    }

    /// Brings layers that came since to a running guest; false when another guest is better.
    fn catch_up(&self, vm: &mut Vm<'a>) -> Result<bool, BuildError> {
        let store = self.builder.store;
        let missing = match self.state.layers.get(vm.layers.len()..) {
            Some(missing) => missing,
            None => return Ok(false),
        };
        let same = self
            .state
            .layers
            .iter()
            .zip(&vm.layers)
            .all(|((a, _), b)| a == b);
        let mut size = 0;
        for (diff_id, blob) in missing {
            // Layers of commands can have marks that only a mount understands.
            if blob != diff_id || !self.plain.contains(diff_id) {
                return Ok(false);
            }
            size += store.blob_size(blob)?.unwrap_or(u64::MAX / 4);
        }
        if !same || size > MAX_SENT {
            return Ok(false);
        }
        for (diff_id, blob) in missing {
            let path = store.blob_path(blob);
            let opened = File::open(&path);
            let mut file = opened.map_err(|e| BuildError::Io("read a layer".to_owned(), e))?;
            vm.guest.add(&mut file)?;
            vm.layers.push(*diff_id);
        }
        Ok(true)
    }
}

fn provided(path: &str, content: &str, mode: u32) -> ProvidedFile {
    ProvidedFile {
        path: path.to_owned(),
        content: content.into(),
        mode,
        uid: 0,
        gid: 0,
    }
}

/// Whether a line is nothing but the begin of a heredoc.
fn is_heredoc(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("<<") && !line.contains(char::is_whitespace)
}
