//! Builds the tree of a template from its tokens.

use serde_json::Value;

use super::TemplateError;
use super::lexer::{Placed, Token};

/// How deep actions and parentheses may nest; more is no template but an attack on the stack.
const DEPTH: usize = 100;

/// A piece of a template.
#[derive(Debug, Clone)]
pub enum Node {
    /// Text to copy.
    Text(String),
    /// A pipeline to print.
    Action(Pipeline),
    /// `if`: condition, body, else.
    If(Pipeline, Vec<Node>, Vec<Node>),
    /// `with`: new dot, body, else.
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// `range`: list, body, else.
    Range(Pipeline, Vec<Node>, Vec<Node>),
    /// `break`
    Break,
    /// `continue`
    Continue,
}

/// Commands, each the last argument of the next.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Variables that get the value.
    pub variables: Vec<String>,
    /// The commands.
    pub commands: Vec<Command>,
    /// The line it is on.
    pub line: usize,
}

/// A value, or a function with arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// What stands first.
    pub operand: Operand,
    /// What follows.
    pub arguments: Vec<Operand>,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Operand {
    /// A constant.
    Constant(Value),
    /// A function's name.
    Function(String),
    /// A path of fields from a base.
    Path(Base, Vec<String>),
}

/// Where a path begins.
#[derive(Debug, Clone)]
pub enum Base {
    /// The current value.
    Dot,
    /// A variable; without a name, the value that the template was applied to.
    Variable(String),
    /// The value of a pipeline in parentheses.
    Pipeline(Box<Pipeline>),
}

/// Builds the tree.
pub fn parse(tokens: Vec<Placed>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        line: 1,
        depth: 0,
    };
    match parser.nodes(false)? {
        (nodes, Ended::Eof) => Ok(nodes),
        (_, Ended::ByElse) => parser.fail("unexpected {{else}}"),
        (_, Ended::ByEnd) => parser.fail("unexpected {{end}}"),
    }
}

/// What ended a list of nodes.
#[derive(PartialEq, Eq)]
enum Ended {
    Eof,
    ByElse,
    ByEnd,
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    line: usize,
    depth: usize,
}

impl Parser {
    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::Parse {
            line: self.line,
            problem: problem.into(),
        })
    }

    fn next(&mut self) -> Option<Token> {
        let (token, line) = self.tokens.next()?;
        self.line = line;
        Some(token)
    }

    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|(token, _)| token)
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.next();
        }
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self.fail("nested too deeply");
        }
        Ok(())
    }

    fn nodes(&mut self, in_range: bool) -> Result<(Vec<Node>, Ended), TemplateError> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let end = loop {
            match self.next() {
                None => break Ended::Eof,
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(_) => {
                    self.skip_space();
                    let word = match self.peek() {
                        Some(Token::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match word.as_str() {
                        "end" => {
                            self.next();
                            self.close()?;
                            break Ended::ByEnd;
                        }
                        "else" => {
                            self.next();
                            break Ended::ByElse;
                        }
                        "if" | "with" | "range" => {
                            self.next();
                            nodes.push(self.block(&word, in_range)?);
                        }
                        "break" | "continue" if in_range => {
                            self.next();
                            self.close()?;
                            let is_break = word == "break";
                            nodes.push(if is_break {
                                Node::Break
                            } else {
                                Node::Continue
                            });
                        }
                        "break" | "continue" => {
                            return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                        }
                        "template" | "define" | "block" => {
                            return self.fail(format!("{{{{{word}}}}} is not supported"));
                        }
                        _ => {
                            let pipeline = self.pipeline(&Token::Close)?;
                            nodes.push(Node::Action(pipeline));
                        }
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        self.skip_space();
        match self.next() {
            Some(Token::Close) => Ok(()),
            other => self.fail(format!(
                "unexpected {} in end of action",
                name(other.as_ref())
            )),
        }
    }

    /// The rest of `if`, `with` or `range`, through its `end`.
    fn block(&mut self, kind: &str, in_range: bool) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline(&Token::Close)?;
        let (body, end) = self.nodes(in_range || kind == "range")?;
        let otherwise = match end {
            Ended::ByEnd => Vec::new(),
            Ended::Eof => return self.fail("unexpected EOF"),
            Ended::ByElse => self.otherwise(kind, in_range)?,
        };
        Ok(match kind {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    /// What follows `else`: a list of nodes, or `if` and a block of its own.
    fn otherwise(&mut self, kind: &str, in_range: bool) -> Result<Vec<Node>, TemplateError> {
        self.skip_space();
        if let Some(Token::Word(word)) = self.peek()
            && word == kind
            && kind != "range"
        {
            self.next();
            self.deeper()?;
            let node = self.block(kind, in_range)?;
            self.depth -= 1;
            return Ok(vec![node]);
        }
        self.close()?;
        match self.nodes(in_range)? {
            (nodes, Ended::ByEnd) => Ok(nodes),
            (_, Ended::ByElse) => self.fail("expected end; found {{else}}"),
            (_, Ended::Eof) => self.fail("unexpected EOF"),
        }
    }

    fn pipeline(&mut self, end: &Token) -> Result<Pipeline, TemplateError> {
        self.deeper()?;
        self.skip_space();
        let mut pipeline = Pipeline {
            variables: Vec::new(),
            commands: Vec::new(),
            line: self.line,
        };
        let mut first = None;
        if let Some(Token::Variable(name)) = self.peek() {
            let name = name.clone();
            self.next();
            first = self.declaration(name, &mut pipeline)?;
        }
        loop {
            let operand = match first.take() {
                Some(operand) => operand,
                None => self.operand()?,
            };
            let (command, last) = self.command(operand, end)?;
            let takes_no_arguments = matches!(command.operand, Operand::Constant(_));
            if takes_no_arguments
                && (!command.arguments.is_empty() || !pipeline.commands.is_empty())
            {
                return self.fail("a constant is not a function: it takes no arguments");
            }
            pipeline.commands.push(command);
            if last {
                self.depth -= 1;
                return Ok(pipeline);
            }
        }
    }

    /// After a variable: what it is declared as, or the operand that it is.
    fn declaration(
        &mut self,
        name: String,
        pipeline: &mut Pipeline,
    ) -> Result<Option<Operand>, TemplateError> {
        let fields = self.fields();
        if !fields.is_empty() {
            return Ok(Some(Operand::Path(Base::Variable(name), fields)));
        }
        self.skip_space();
        match self.peek() {
            Some(Token::Assign) => {
                self.next();
                pipeline.variables.push(name);
                self.skip_space();
                Ok(None)
            }
            Some(Token::Comma) => {
                self.next();
                self.skip_space();
                let Some(Token::Variable(second)) = self.next() else {
                    return self.fail("expected a variable after the comma");
                };
                self.skip_space();
                if self.next() != Some(Token::Assign) {
                    return self.fail("expected := after the variables");
                }
                pipeline.variables.extend([name, second]);
                self.skip_space();
                Ok(None)
            }
            _ => Ok(Some(Operand::Path(Base::Variable(name), Vec::new()))),
        }
    }

    /// The arguments behind `operand`, and whether the pipeline ends with them.
    fn command(&mut self, operand: Operand, end: &Token) -> Result<(Command, bool), TemplateError> {
        let mut command = Command {
            operand,
            arguments: Vec::new(),
        };
        loop {
            self.skip_space();
            match self.peek() {
                Some(token) if token == end => {
                    self.next();
                    return Ok((command, true));
                }
                Some(Token::Pipe) => {
                    self.next();
                    self.skip_space();
                    return Ok((command, false));
                }
                _ => command.arguments.push(self.operand()?),
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        Ok(match self.next() {
            Some(Token::Field(first)) => {
                let mut fields = self.fields();
                if !first.is_empty() {
                    fields.insert(0, first);
                }
                Operand::Path(Base::Dot, fields)
            }
            Some(Token::Variable(name)) => Operand::Path(Base::Variable(name), self.fields()),
            Some(Token::Left) => {
                let inner = self.pipeline(&Token::Right)?;
                Operand::Path(Base::Pipeline(Box::new(inner)), self.fields())
            }
            Some(Token::Quoted(text)) => Operand::Constant(Value::String(text)),
            Some(Token::Number(number)) => Operand::Constant(Value::Number(number)),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Operand::Constant(Value::Bool(true)),
                "false" => Operand::Constant(Value::Bool(false)),
                "nil" => Operand::Constant(Value::Null),
                name if super::functions::exists(name) => Operand::Function(word),
                name => return self.fail(format!("function {name:?} not defined")),
            },
            Some(Token::Close) => return self.fail("missing value for command"),
            None => return self.fail("unexpected EOF"),
            other => {
                return self.fail(format!("unexpected {} in operand", name(other.as_ref())));
            }
        })
    }

    /// Fields directly behind an operand.
    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some(Token::Field(name)) = self.peek() {
            if !name.is_empty() {
                fields.push(name.clone());
            }
            self.next();
        }
        fields
    }
}

fn name(token: Option<&Token>) -> String {
    match token {
        None => "EOF".to_owned(),
        Some(Token::Close) => "\"}}\"".to_owned(),
        Some(Token::Right) => "\")\"".to_owned(),
        Some(Token::Left) => "\"(\"".to_owned(),
        Some(Token::Pipe) => "\"|\"".to_owned(),
        Some(Token::Comma) => "\",\"".to_owned(),
        Some(Token::Assign) => "\"=\"".to_owned(),
        Some(Token::Word(word)) => format!("<{word}>"),
        Some(Token::Field(name)) => format!("<.{name}>"),
        Some(other) => format!("{other:?}"),
    }
}
