//! One stage: its base, and its steps one after the other.

mod config;
mod copy;
mod fetch;
mod mounts;
mod run;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::copy::Placer;
use super::dockerfile::{self, Instruction, Mistake, Source, Span, Step, expand};
use super::files::{ImageTree, find};
use super::layer::Entries;
use super::plan::{Base, Plan, Planned};
use super::report::Event;
use super::schedule::Stages;
use super::{BuildError, Builder};
use crate::image::View;
use crate::image::convert::{self, Added, Expected};
use crate::image::digest::{Digest, HashWriter};
use state::Finished;
pub use state::State;

/// Build arguments that everybody may pass and no image remembers.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Whether a build argument needs no `ARG`.
pub fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name)
}

/// Builds a stage whose needs are there.
pub fn run(
    builder: &Builder<'_>,
    plan: &Plan<'_>,
    planned: &Planned<'_>,
    stages: &Stages,
) -> Result<State, BuildError> {
    let platform = builder.platform.clone();
    let mut stage = StageRun {
        builder,
        plan,
        planned,
        stages,
        state: State::scratch(&platform),
        arguments: BTreeMap::new(),
        cmd_set: false,
        number: planned.number,
        view: None,
        vm: None,
        plain: BTreeSet::new(),
    };
    stage.base()?;
    for step in &planned.stage.steps {
        stages.check()?;
        stage.step(step)?;
    }
    if planned.is_target && !builder.options.labels.is_empty() {
        stage.labels()?;
    }
    Ok(stage.state)
}

/// A stage that is being built.
struct StageRun<'a> {
    builder: &'a Builder<'a>,
    plan: &'a Plan<'a>,
    planned: &'a Planned<'a>,
    stages: &'a Stages,
    state: State,
    /// What `ARG` declared, with values.
    arguments: BTreeMap<String, String>,
    /// Whether this stage has set a command of its own.
    cmd_set: bool,
    /// Of the step under way.
    number: usize,
    /// The files of an image, by its id.
    view: Option<(Option<Digest>, Arc<View>)>,
    vm: Option<run::Vm<'a>>,
    /// Layers that this stage made on the host, all of whose files an archive can carry.
    plain: BTreeSet<Digest>,
}

impl StageRun<'_> {
    fn tell(&self, event: Event<'_>) {
        self.builder.report.event(self.planned.index, event);
    }

    fn begin(&mut self, text: &str) -> Instant {
        let (number, total) = (self.number, self.plan.total);
        self.number += 1;
        self.tell(Event::Step {
            number,
            total,
            text,
        });
        Instant::now()
    }

    fn mistake(&self, span: Span, message: impl Into<String>) -> Mistake {
        self.builder.options.source.mistake(span, message)
    }

    /// `FROM`.
    fn base(&mut self) -> Result<(), BuildError> {
        let began = self.begin(&self.planned.stage.text);
        self.state = match &self.planned.base {
            Base::Scratch => State::scratch(&self.builder.platform),
            Base::Stage(stage) => match self.stages.result(*stage) {
                Some(state) => state,
                None => return Err(BuildError::Stopped),
            },
            Base::Image(name, platform) => {
                State::of(&self.builder.image(name, platform.as_ref())?)?
            }
        };
        match &self.state.id {
            Some(id) => self.tell(Event::Done(id, began.elapsed())),
            None => self.tell(Event::Note(" ---> (empty)")),
        }
        self.triggers()
    }

    /// Carries out what the base image left for those that build on it.
    fn triggers(&mut self) -> Result<(), BuildError> {
        if !matches!(self.planned.base, Base::Image(..) | Base::Stage(_)) {
            return Ok(());
        }
        let triggers = self.state.list("OnBuild");
        if triggers.is_empty() {
            return Ok(());
        }
        let mut config = self.state.config();
        config.shift_remove("OnBuild");
        self.state.set_config(config);
        let plural = if triggers.len() == 1 { "" } else { "s" };
        let text = format!("# Executing {} build trigger{plural}", triggers.len());
        self.tell(Event::Note(&text));
        for trigger in triggers {
            let source = Source {
                name: format!("ONBUILD of {}", self.planned.stage.base),
                text: trigger,
            };
            let step = dockerfile::instruction(&source, self.builder.escape)?;
            let began = Instant::now();
            self.carry_out(&step, began).map_err(|error| match error {
                // Positions in the trigger are none in the Dockerfile.
                BuildError::Mistake(mistake) => source
                    .mistake(Span::new(0, source.text.len()), mistake.message)
                    .into(),
                error => error,
            })?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), BuildError> {
        let began = self.begin(&step.text);
        self.carry_out(step, began)
    }

    /// `--label`, as one more step.
    fn labels(&mut self) -> Result<(), BuildError> {
        let labels = &self.builder.options.labels;
        let shown: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let text = format!("LABEL {}", shown.join(" "));
        let began = self.begin(&text);
        let mut config = self.state.config();
        for (name, value) in labels {
            config::put(&mut config, "Labels", name.clone(), value.clone().into());
        }
        self.state.set_config(config);
        self.finish(text, None, None, began)
    }

    fn carry_out(&mut self, step: &Step, began: Instant) -> Result<(), BuildError> {
        let mut config = self.state.config();
        let mut text = step.text.clone();
        match &step.instruction {
            Instruction::Run(run) => return self.run(step, run, began),
            Instruction::Copy(copy) => return self.copy(step, copy, false, began),
            Instruction::Add(copy) => return self.copy(step, copy, true, began),
            Instruction::Workdir(path) => return self.workdir(step, path, began),
            Instruction::Env(pairs) => {
                // As docker: all values are those from before the instruction.
                let mut values = Vec::new();
                for (name, value) in pairs {
                    values.push((self.expand(step, name)?, self.expand(step, value)?));
                }
                for (name, value) in &values {
                    config::set_env(&mut config, name, value);
                }
                text = shown("ENV", &values);
            }
            Instruction::Label(pairs) => {
                let mut values = Vec::new();
                for (name, value) in pairs {
                    values.push((self.expand(step, name)?, self.expand(step, value)?));
                }
                for (name, value) in &values {
                    config::put(&mut config, "Labels", name.clone(), value.clone().into());
                }
                text = shown("LABEL", &values);
            }
            Instruction::Arg(arguments) => {
                let mut told = Vec::new();
                for (name, default) in arguments {
                    told.push(self.declare(step, name, default.as_deref())?);
                }
                text = format!("ARG {}", told.join(" "));
            }
            Instruction::Maintainer(name) => {
                self.state
                    .image
                    .insert("author".to_owned(), name.clone().into());
            }
            Instruction::Expose(ports) => {
                for port in ports {
                    let port = self.expand(step, port)?;
                    for port in port.split_whitespace() {
                        let keys = config::ports(port).map_err(|m| self.mistake(step.span, m))?;
                        for key in keys {
                            config::put(&mut config, "ExposedPorts", key, json!({}));
                        }
                    }
                }
            }
            Instruction::Volume(paths) => {
                for path in paths {
                    let path = self.expand(step, path)?;
                    config::put(&mut config, "Volumes", path, json!({}));
                }
            }
            Instruction::User(user) => {
                let user = self.expand(step, user)?;
                text = format!("USER {user}");
                config.insert("User".to_owned(), user.into());
            }
            Instruction::Cmd(command) => {
                self.cmd_set = true;
                config::set_list(&mut config, "Cmd", config::words(command, &self.shell()));
            }
            Instruction::Entrypoint(command) => {
                config::set_list(
                    &mut config,
                    "Entrypoint",
                    config::words(command, &self.shell()),
                );
                // The base image's command belonged to its entrypoint.
                if !self.cmd_set {
                    config.shift_remove("Cmd");
                }
            }
            Instruction::Shell(words) => {
                config.insert("Shell".to_owned(), words.clone().into());
            }
            Instruction::Stopsignal(signal) => {
                let signal = self.expand(step, signal)?;
                crate::container::lifecycle::signal_number(&signal)
                    .map_err(|error| self.mistake(step.span, error.to_string()))?;
                config.insert("StopSignal".to_owned(), signal.into());
            }
            Instruction::Healthcheck(health) => {
                config.insert("Healthcheck".to_owned(), config::health(health.as_ref()));
            }
            Instruction::Onbuild(trigger) => {
                let trigger = Value::from(trigger.clone());
                config::with_list(&mut config, "OnBuild", |list| list.push(trigger));
            }
        }
        self.state.set_config(config);
        self.finish(text, None, None, began)
    }

    /// `ARG`: returns what the history says.
    fn declare(
        &mut self,
        step: &Step,
        name: &str,
        default: Option<&str>,
    ) -> Result<String, BuildError> {
        let default = default.map(|text| self.expand(step, text)).transpose()?;
        let given = self.builder.argument(name);
        let known = given
            .or_else(|| self.builder.platform_argument(name))
            .or_else(|| default.clone())
            .or_else(|| self.plan.globals.get(name).cloned());
        if let Some(value) = known {
            self.arguments.insert(name.to_owned(), value);
        }
        Ok(match default {
            Some(default) => format!("{name}={default}"),
            None => name.to_owned(),
        })
    }

    fn shell(&self) -> Vec<String> {
        match self.state.list("Shell") {
            words if words.is_empty() => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            words => words,
        }
    }

    /// A word with its variables' values, without quotes.
    fn expand(&self, step: &Step, text: &str) -> Result<String, Mistake> {
        expand::word(text, self.builder.escape, &|name| self.variable(name))
            .map_err(|message| self.mistake(step.span, message))
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = self
            .state
            .env(name)
            .or_else(|| self.arguments.get(name).cloned());
        value.or_else(|| match is_proxy(name) {
            true => self.builder.argument(name),
            false => None,
        })
    }

    /// `WORKDIR`, which also makes the directory.
    fn workdir(&mut self, step: &Step, path: &str, began: Instant) -> Result<(), BuildError> {
        let path = self.expand(step, path)?;
        if path.is_empty() {
            return Err(self
                .mistake(step.span, "WORKDIR requires a path that is not empty")
                .into());
        }
        let path = config::clean(&self.state.working_dir(), &path);
        let view = ImageTree(self.view()?);
        let missing = find(&view, path.as_bytes())?.is_none();
        let mut layer = None;
        if missing {
            let mut placer = Placer::new(Some(&view), None, self.builder.options.epoch);
            let place = placer.destination(path.as_bytes());
            let made = place.and_then(|place| placer.directory(&place));
            made.map_err(|error| self.mistake(step.span, error.to_string()))?;
            layer = Some(self.layer(&placer.finish())?);
        }
        let mut config = self.state.config();
        config.insert("WorkingDir".to_owned(), path.clone().into());
        self.state.set_config(config);
        self.finish(format!("WORKDIR {path}"), layer, None, began)
    }

    /// The files of the state.
    fn view(&mut self) -> Result<Arc<View>, BuildError> {
        if let Some((id, view)) = &self.view
            && *id == self.state.id
        {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(match &self.state.id {
            Some(id) => View::open(self.builder.store, &self.builder.load(id)?)?,
            None => View::empty(),
        });
        self.view = Some((self.state.id, Arc::clone(&view)));
        Ok(view)
    }

    /// The layer of these entries: the store's, when it has it.
    fn layer(&mut self, entries: &Entries) -> Result<Added, BuildError> {
        let added = self.make_layer(entries)?;
        if entries.0.values().all(|entry| entry.xattrs.is_empty()) {
            self.plain.insert(added.layer.diff_id);
        }
        Ok(added)
    }

    fn make_layer(&self, entries: &Entries) -> Result<Added, BuildError> {
        let failed = |error| BuildError::Io("read the files to copy".to_owned(), error);
        let mut hash = HashWriter::new(std::io::sink());
        entries.write(&mut hash).map_err(failed)?;
        let (digest, _) = hash.finish();
        let builder = self.builder;
        let _lock = builder.store.lock_digest(&digest, || {})?;
        if let Some(known) = convert::claim(builder.store, builder.lease, &digest, &digest)? {
            return Ok(known);
        }
        let (mut reader, writer) = std::io::pipe().map_err(failed)?;
        let limits = convert::limits(&builder.settings.limits);
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || entries.write(writer));
            let added = convert::add_layer(
                builder.store,
                builder.lease,
                &limits,
                &mut reader,
                Expected::default(),
            );
            drop(reader);
            match writing.join() {
                Ok(Ok(())) => Ok(added?),
                Ok(Err(error)) if added.is_ok() => Err(failed(error)),
                // The reader's failure is why the writer could not go on.
                Ok(Err(_)) => Ok(added?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Makes an image of what the step left.
    fn finish(
        &mut self,
        created_by: String,
        layer: Option<Added>,
        step: Option<Digest>,
        began: Instant,
    ) -> Result<(), BuildError> {
        let ran = step.is_some();
        let done = Finished {
            created_by,
            layer,
            step,
        };
        let known = self.state.finish(self.builder, done)?;
        if known && !ran && !self.builder.options.no_cache {
            self.tell(Event::Cached);
        }
        if let Some(id) = &self.state.id {
            self.tell(Event::Done(id, began.elapsed()));
        }
        Ok(())
    }
}

fn shown(name: &str, values: &[(String, String)]) -> String {
    let pairs: Vec<String> = values
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{name} {}", pairs.join(" "))
}
