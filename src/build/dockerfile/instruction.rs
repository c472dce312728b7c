//! What a Dockerfile's instructions are.

use super::lines::Heredoc;
use super::source::Span;

/// A whole Dockerfile.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// `ARG`s before the first `FROM`.
    pub arguments: Vec<Step>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// What joins lines and makes the next character ordinary.
    pub escape: char,
    /// The frontend that the author had in mind.
    pub syntax: Option<String>,
}

/// `FROM` and what follows it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The image, another stage's name, or `scratch`; not yet expanded.
    pub base: String,
    /// `AS`, in lower case.
    pub name: Option<String>,
    /// `--platform`, not yet expanded.
    pub platform: Option<String>,
    /// Where the base stands.
    pub span: Span,
    /// The instruction as it is written.
    pub text: String,
    /// The other instructions.
    pub steps: Vec<Step>,
}

/// An instruction and how it is written.
#[derive(Debug, Clone)]
pub struct Step {
    /// What is to be done.
    pub instruction: Instruction,
    /// Its text, lines joined, with the name in upper case.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// What a stage's step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `RUN`
    Run(Run),
    /// `COPY`
    Copy(Copy),
    /// `ADD`
    Add(Copy),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `ARG`: names and defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `EXPOSE`
    Expose(Vec<String>),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
    /// `USER`
    User(String),
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(String),
    /// `HEALTHCHECK`; nothing for `NONE`.
    Healthcheck(Option<Health>),
    /// `ONBUILD`: an instruction.
    Onbuild(String),
}

/// Something to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What.
    pub command: Command,
    /// What the command reads from the lines below.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, not yet expanded: the options' values.
    pub mounts: Vec<String>,
    /// `--network`
    pub network: Network,
}

/// Which network a `RUN` has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// What the build has.
    #[default]
    Default,
    /// None.
    None,
    /// The host's, which no guest gets.
    Host,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// Files, patterns, addresses; not yet expanded.
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub destination: String,
    /// `--from`: a stage or an image.
    pub from: Option<String>,
    /// `--chown`
    pub chown: Option<String>,
    /// `--chmod`
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// `ADD --checksum`
    pub checksum: Option<String>,
    /// `ADD --unpack`
    pub unpack: Option<bool>,
    /// `ADD --keep-git-dir`
    pub keep_git_dir: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What tells.
    pub command: Command,
    /// Fields of the image's configuration: nanoseconds, and `Retries`.
    pub fields: Vec<(&'static str, i64)>,
}

/// Every instruction's name.
pub const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
