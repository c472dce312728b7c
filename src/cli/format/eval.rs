//! Applies a template's tree to a value.

use std::borrow::Cow;

use serde_json::Value;

use super::TemplateError;
use super::functions;
use super::parser::{Base, Command, Node, Operand, Pipeline};
use super::print;

/// Objects that stand for Go maps, whose keys are data: a missing one is no mistake there.
const MAPS: [&str; 16] = [
    "Annotations",
    "Cgroups",
    "DriverOpts",
    "ExposedPorts",
    "GlobalMounts",
    "Labels",
    "LogOpts",
    "Metadata",
    "Networks",
    "Options",
    "Opts",
    "PortBindings",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// What to do after a node.
enum Flow {
    On,
    Break,
    Continue,
}

/// Applies `nodes` to `root`. With `titles`, functions pass the titles of columns through.
pub fn run(nodes: &[Node], root: &Value, titles: bool) -> Result<String, TemplateError> {
    let mut machine = Machine {
        root,
        titles,
        output: String::new(),
        variables: Vec::new(),
    };
    machine.nodes(nodes, root)?;
    Ok(machine.output)
}

struct Machine<'a> {
    root: &'a Value,
    titles: bool,
    output: String,
    variables: Vec<(String, Value)>,
}

impl Machine<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::On => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.output.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?.into_owned();
                if pipeline.variables.is_empty() {
                    self.output.push_str(&print::shown(&value));
                } else {
                    self.declare(pipeline, value);
                }
            }
            Node::If(pipeline, body, otherwise) => {
                return self.scoped(|machine| {
                    let value = machine.pipeline(pipeline, dot)?.into_owned();
                    let holds = print::is_true(&value);
                    machine.declare(pipeline, value);
                    machine.nodes(if holds { body } else { otherwise }, dot)
                });
            }
            Node::With(pipeline, body, otherwise) => {
                return self.scoped(|machine| {
                    let value = machine.pipeline(pipeline, dot)?.into_owned();
                    machine.declare(pipeline, value.clone());
                    if print::is_true(&value) {
                        machine.nodes(body, &value)
                    } else {
                        machine.nodes(otherwise, dot)
                    }
                });
            }
            Node::Range(pipeline, body, otherwise) => {
                return self.range(pipeline, body, otherwise, dot);
            }
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let value = self.pipeline(pipeline, dot)?.into_owned();
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(at, item)| (at.into(), item))
                .collect(),
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|(left, _), (right, _)| left.cmp(right));
                items
                    .into_iter()
                    .map(|(key, item)| (key.into(), item))
                    .collect()
            }
            Value::Null => Vec::new(),
            Value::Number(ref number) if number.as_u64().is_some_and(|count| count < 1 << 20) => (0
                ..number.as_u64().unwrap_or(0))
                .map(|at| (at.into(), at.into()))
                .collect(),
            other => {
                let problem = format!("range can't iterate over {}", print::shown(&other));
                return Err(fail(pipeline, pipeline.commands.first(), problem));
            }
        };
        if items.is_empty() {
            return self.scoped(|machine| machine.nodes(otherwise, dot));
        }
        for (key, item) in items {
            let flow = self.scoped(|machine| {
                match pipeline.variables.as_slice() {
                    [one] => machine.variables.push((one.clone(), item.clone())),
                    [first, second, ..] => {
                        machine.variables.push((first.clone(), key));
                        machine.variables.push((second.clone(), item.clone()));
                    }
                    [] => {}
                }
                machine.nodes(body, &item)
            })?;
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// Runs a block whose variables end with it.
    fn scoped(
        &mut self,
        block: impl FnOnce(&mut Self) -> Result<Flow, TemplateError>,
    ) -> Result<Flow, TemplateError> {
        let before = self.variables.len();
        let flow = block(self);
        self.variables.truncate(before);
        flow
    }

    fn declare(&mut self, pipeline: &Pipeline, value: Value) {
        if let Some(name) = pipeline.variables.first() {
            match self
                .variables
                .iter_mut()
                .rev()
                .find(|(known, _)| known == name)
            {
                // `$x = …` and `$x := …` differ in Go only where blocks nest.
                Some(known) => known.1 = value,
                None => self.variables.push((name.clone(), value)),
            }
        }
    }

    fn pipeline<'v>(
        &self,
        pipeline: &Pipeline,
        dot: &'v Value,
    ) -> Result<Cow<'v, Value>, TemplateError> {
        let mut carried: Option<Value> = None;
        for command in &pipeline.commands {
            let value = self.command(pipeline, command, dot, carried.take())?;
            if pipeline.commands.len() == 1 {
                return Ok(value);
            }
            carried = Some(value.into_owned());
        }
        Ok(Cow::Owned(carried.unwrap_or_default()))
    }

    fn command<'v>(
        &self,
        pipeline: &Pipeline,
        command: &Command,
        dot: &'v Value,
        carried: Option<Value>,
    ) -> Result<Cow<'v, Value>, TemplateError> {
        let error = |problem: String| fail(pipeline, Some(command), problem);
        let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
        for operand in &command.arguments {
            arguments.push(self.operand(pipeline, command, operand, dot)?.into_owned());
        }
        arguments.extend(carried);
        match &command.operand {
            Operand::Function(name) if self.titles => {
                // The title is the text among the arguments that is not part of the template.
                let constants = command
                    .arguments
                    .iter()
                    .map(|operand| matches!(operand, Operand::Constant(_)));
                let constants = constants.chain([false]);
                let title = arguments
                    .iter()
                    .zip(constants)
                    .find(|(_, constant)| !constant);
                let title = title.map(|(value, _)| value.clone());
                functions::call(name, &arguments)
                    .ok()
                    .filter(|_| !functions::is_dockers(name))
                    .or(title)
                    .map(Cow::Owned)
                    .ok_or_else(|| error(format!("wrong number of args for {name}")))
            }
            Operand::Function(name) => functions::call(name, &arguments)
                .map(Cow::Owned)
                .map_err(error),
            // The one method of docker's values that takes an argument.
            Operand::Path(Base::Dot, fields) if fields.as_slice() == ["Label"] => {
                if self.titles {
                    return Ok(Cow::Owned(arguments.into_iter().next().unwrap_or_default()));
                }
                let wanted = arguments.first().and_then(Value::as_str);
                let wanted =
                    wanted.ok_or_else(|| error("Label takes a label's name".to_owned()))?;
                Ok(Cow::Owned(label(dot, wanted)))
            }
            operand if arguments.is_empty() => self.operand(pipeline, command, operand, dot),
            _ => Err(error(
                "it is not a function, but it has arguments".to_owned(),
            )),
        }
    }

    fn operand<'v>(
        &self,
        pipeline: &Pipeline,
        command: &Command,
        operand: &Operand,
        dot: &'v Value,
    ) -> Result<Cow<'v, Value>, TemplateError> {
        let error = |problem: String| fail(pipeline, Some(command), problem);
        match operand {
            Operand::Constant(value) => Ok(Cow::Owned(value.clone())),
            Operand::Function(name) => functions::call(name, &[]).map(Cow::Owned).map_err(error),
            Operand::Path(Base::Dot, fields) if self.titles && fields.len() == 1 => {
                let field = &fields[0];
                Ok(match dot.get(field) {
                    Some(title) => Cow::Borrowed(title),
                    None => Cow::Owned(Value::from(super::listing::heading(field))),
                })
            }
            Operand::Path(Base::Dot, fields) => walk(dot, fields).map(Cow::Borrowed).map_err(error),
            Operand::Path(Base::Variable(name), fields) => {
                let value = match self.variables.iter().rev().find(|(known, _)| known == name) {
                    Some((_, value)) => value,
                    None if name.is_empty() => self.root,
                    None => return Err(error(format!("undefined variable \"${name}\""))),
                };
                walk(value, fields)
                    .map(|value| Cow::Owned(value.clone()))
                    .map_err(error)
            }
            Operand::Path(Base::Pipeline(inner), fields) => match self.pipeline(inner, dot)? {
                Cow::Borrowed(value) => walk(value, fields).map(Cow::Borrowed).map_err(error),
                Cow::Owned(value) => walk(&value, fields)
                    .map(|value| Cow::Owned(value.clone()))
                    .map_err(error),
            },
        }
    }
}

/// Follows fields into a value.
fn walk<'v>(value: &'v Value, fields: &[String]) -> Result<&'v Value, String> {
    const NOTHING: &Value = &Value::Null;
    let mut value = value;
    let mut is_map = false;
    for (position, field) in fields.iter().enumerate() {
        value = match value {
            Value::Object(map) => match map.get(field) {
                Some(inner) => inner,
                None if is_map => NOTHING,
                None => return Err(format!("map has no entry for key {field:?}")),
            },
            Value::Null if is_map => NOTHING,
            Value::Null => {
                let before = fields
                    .get(position.wrapping_sub(1))
                    .map_or(".", String::as_str);
                return Err(format!("nil data; no entry for key {field:?} in {before}"));
            }
            other => {
                return Err(format!(
                    "can't evaluate field {field} in {}",
                    print::kind(other)
                ));
            }
        };
        is_map = MAPS.contains(&field.as_str());
    }
    Ok(value)
}

/// A label's value: from an object, or from docker's text `key=value,key=value`.
fn label(value: &Value, wanted: &str) -> Value {
    let found = match value.get("Labels") {
        Some(Value::Object(labels)) => labels.get(wanted).cloned(),
        Some(Value::String(text)) => text.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == wanted).then(|| Value::from(value))
        }),
        _ => None,
    };
    found.unwrap_or_else(|| Value::from(""))
}

fn fail(pipeline: &Pipeline, command: Option<&Command>, problem: String) -> TemplateError {
    let at = command.map_or_else(String::new, |command| print::source(&command.operand));
    TemplateError::Execute {
        line: pipeline.line,
        at,
        problem,
    }
}
