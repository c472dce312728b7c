//! Which stages a build needs, what each begins with and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::dockerfile::{Dockerfile, Instruction, Mistake, Stage, expand};
use super::{BuildError, Builder, NamedContext};
use crate::arch::Platform;

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(String, Option<Platform>),
}

/// A stage that is needed.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Its place in the Dockerfile.
    pub index: usize,
    /// Its steps.
    pub stage: &'a Stage,
    /// What it begins with.
    pub base: Base,
    /// The stages that it copies or mounts from, and its base.
    pub needs: BTreeSet<usize>,
    /// The number of its `FROM` among all steps, from 1.
    pub number: usize,
    /// Whether the build is for its image.
    pub is_target: bool,
}

/// A build's stages.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Those that are needed, in order.
    pub stages: Vec<Planned<'a>>,
    /// The names of all stages.
    pub names: BTreeMap<String, usize>,
    /// `ARG`s before the first `FROM`, with their values.
    pub globals: BTreeMap<String, String>,
    /// Steps of all needed stages.
    pub total: usize,
}

impl Plan<'_> {
    /// The stage before `index` that a name or a number means.
    pub fn stage(&self, name: &str, index: usize) -> Option<usize> {
        find(&self.names, name, index)
    }
}

fn find(names: &BTreeMap<String, usize>, name: &str, before: usize) -> Option<usize> {
    let known = names.get(&name.to_ascii_lowercase()).copied();
    let number = || name.parse::<usize>().ok();
    known.or_else(number).filter(|stage| *stage < before)
}

/// Plans the build of the target.
pub fn plan<'a>(file: &'a Dockerfile, builder: &Builder<'_>) -> Result<Plan<'a>, BuildError> {
    let source = &builder.options.source;
    let globals = globals(file, builder)?;
    let mut names = BTreeMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        if let Some(name) = &stage.name {
            names.insert(name.clone(), index);
        }
    }
    let count = file.stages.len();
    let target = match &builder.options.target {
        None => count - 1,
        Some(target) => find(&names, target, count).ok_or_else(|| {
            let known: Vec<&str> = names.keys().map(String::as_str).collect();
            let hint = super::dockerfile::suggest(target, &known)
                .map_or_else(String::new, |name| format!(", did you mean {name}?"));
            BuildError::Usage(format!(
                "target stage {target:?} could not be found in {}{hint}",
                source.name
            ))
        })?,
    };
    let mut bases = Vec::new();
    let mut needs = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let wrong = |message: String| source.mistake(stage.span, message);
        let expand = |text: &str| -> Result<String, Mistake> {
            let lookup = |name: &str| {
                globals
                    .get(name)
                    .cloned()
                    .or_else(|| builder.platform_argument(name))
            };
            expand::word(text, file.escape, &lookup).map_err(wrong)
        };
        let name = expand(&stage.base)?;
        let platform = match &stage.platform {
            None => None,
            Some(text) => match expand(text)?.as_str() {
                "" => None,
                text => Some(text.parse::<Platform>().map_err(|e| wrong(e.to_string()))?),
            },
        };
        if name.is_empty() {
            let message = format!(
                "base name ({}) should not be blank: give the ARGs in it values",
                stage.base
            );
            return Err(wrong(message).into());
        }
        let named = names
            .get(&name.to_ascii_lowercase())
            .filter(|it| **it < index);
        let base = match named {
            _ if builder.context(&name).is_some() => match builder.context(&name) {
                Some(NamedContext::Image(other)) => Base::Image(other.clone(), platform),
                _ => {
                    let message = format!(
                        "{name} is a directory (--build-context), which no stage can begin with: use FROM scratch and COPY --from={name}"
                    );
                    return Err(wrong(message).into());
                }
            },
            Some(stage) => Base::Stage(*stage),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image(name, platform),
        };
        needs.push(sources(stage, &base, &names, index, builder));
        bases.push(base);
    }
    let mut wanted = BTreeSet::from([target]);
    for index in (0..=target).rev() {
        if wanted.contains(&index) {
            wanted.extend(needs[index].iter().copied());
        }
    }
    let mut plan = Plan {
        stages: Vec::new(),
        names,
        globals,
        total: 0,
    };
    let parts = file.stages.iter().zip(bases).zip(needs).enumerate();
    for (index, ((stage, base), needs)) in parts {
        if !wanted.contains(&index) {
            continue;
        }
        let is_target = index == target;
        plan.stages.push(Planned {
            index,
            stage,
            base,
            needs,
            number: plan.total + 1,
            is_target,
        });
        let labels = usize::from(is_target && !builder.options.labels.is_empty());
        plan.total += 1 + stage.steps.len() + labels;
    }
    Ok(plan)
}

/// The stages before this one that it uses.
fn sources(
    stage: &Stage,
    base: &Base,
    names: &BTreeMap<String, usize>,
    index: usize,
    builder: &Builder<'_>,
) -> BTreeSet<usize> {
    let find = |from: &str| match builder.context(from) {
        Some(_) => None,
        None => find(names, from, index),
    };
    let mut found = BTreeSet::new();
    if let Base::Stage(base) = base {
        found.insert(*base);
    }
    for step in &stage.steps {
        match &step.instruction {
            Instruction::Copy(copy) => {
                let from = copy.from.as_ref();
                found.extend(from.and_then(|from| find(from)));
            }
            Instruction::Run(run) => {
                let from = run.mounts.iter().flat_map(|mount| mount.split(','));
                let from = from.filter_map(|field| field.strip_prefix("from="));
                found.extend(from.filter_map(find));
            }
            _ => {}
        }
    }
    found
}

fn globals(file: &Dockerfile, builder: &Builder<'_>) -> Result<BTreeMap<String, String>, Mistake> {
    let mut globals: BTreeMap<String, String> = BTreeMap::new();
    for step in &file.arguments {
        let Instruction::Arg(arguments) = &step.instruction else {
            continue;
        };
        for (name, default) in arguments {
            let lookup = |name: &str| {
                globals
                    .get(name)
                    .cloned()
                    .or_else(|| builder.platform_argument(name))
            };
            let default = default
                .as_ref()
                .map(|text| expand::word(text, file.escape, &lookup))
                .transpose()
                .map_err(|message| builder.options.source.mistake(step.span, message))?;
            if let Some(value) = builder.argument(name).or(default) {
                globals.insert(name.clone(), value);
            }
        }
    }
    Ok(globals)
}
