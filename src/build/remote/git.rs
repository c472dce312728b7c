//! Git repositories: the host's git fetches, and nothing is ever checked out.
//!
//! What a repository holds is hostile. Git only takes its objects in, into a bare repository of
//! this build alone, without the user's or the system's settings, hooks, helpers or templates;
//! the files are then read from the objects by hull ([`super::objects`]) and never become files
//! of the host. So neither names, links, attributes nor filters of a repository mean anything
//! here.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::objects;
use crate::build::layer::Entries;
use crate::store::{Store, TempDir};

/// The most of what git says about a failure.
const MAX_MESSAGE: usize = 400;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// The user, with all that ssh knows of them.
    User,
    /// A Dockerfile: with nothing.
    #[default]
    Nobody,
    /// A Dockerfile, with this SSH agent.
    Agent(PathBuf),
}

/// What to fetch and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Who asks.
    pub login: Login,
    /// A header for requests over HTTP.
    pub header: Option<String>,
    /// Whether the history comes along, as `.git`.
    pub keep_git_dir: bool,
    /// The begin of the commit that it must be.
    pub commit: Option<String>,
    /// How many repositories it stands in.
    pub depth: u32,
}

/// A repository's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// For git.
    pub url: String,
    /// A branch, a tag or a commit; the repository's own choice when empty.
    pub reference: String,
    /// A directory of it; all when empty.
    pub directory: String,
}

impl Address {
    /// `URL#REFERENCE:DIRECTORY`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let wrong = |what: &str| Err(format!("invalid address of a repository {text:?}: {what}"));
        let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        if reference.starts_with('-') || reference.contains(forbidden) || reference.contains("..") {
            return wrong("that is no branch, tag or commit");
        }
        if directory
            .split('/')
            .any(|name| name == ".." || name == ".git")
        {
            return wrong("the directory must be inside");
        }
        let lower = url.to_ascii_lowercase();
        let schemes = ["http://", "https://", "git://", "ssh://"];
        let known = schemes.iter().any(|scheme| lower.starts_with(scheme));
        let short = url
            .split_once(':')
            .is_some_and(|(host, path)| host.contains('@') && !path.is_empty());
        if url.starts_with('-') || url.contains(char::is_control) || !(known || short) {
            return wrong("use http, https, ssh, git or user@host:path");
        }
        Ok(Self {
            url: url.to_owned(),
            reference: reference.to_owned(),
            directory: directory.trim_matches('/').to_owned(),
        })
    }

    fn needs_ssh(&self) -> bool {
        let lower = self.url.to_ascii_lowercase();
        lower.starts_with("ssh://") || !lower.contains("://")
    }
}

/// The header that logs in with a token, as hosts of repositories want it.
pub fn token_header(token: &str) -> String {
    let pair = STANDARD.encode(format!("x-access-token:{token}"));
    format!("Authorization: basic {pair}")
}

/// Fetches a commit's files.
pub fn fetch(store: &Store, address: &Address, wanted: &Wanted) -> Result<Entries, String> {
    let failed = |error: String| format!("cannot fetch {}: {error}", address.url);
    let place = store
        .temp_dir("git")
        .map_err(|error| failed(error.to_string()))?;
    let git = Git {
        place: &place,
        address,
        wanted,
    };
    git.check().map_err(failed)?;
    git.run(&["init", "--quiet", "--bare", "--template="])
        .map_err(failed)?;
    let commit = git.fetch().map_err(failed)?;
    if let Some(expected) = &wanted.commit
        && !(commit.starts_with(&expected.to_ascii_lowercase()) && expected.len() >= 7)
    {
        return Err(failed(format!(
            "its commit is {commit}, not {expected} as --checksum has it"
        )));
    }
    objects::read(store, &git, &commit).map_err(failed)
}

/// Git in a repository of its own.
pub(super) struct Git<'a> {
    place: &'a TempDir,
    pub address: &'a Address,
    pub wanted: &'a Wanted,
}

impl Git<'_> {
    /// Where the repository is.
    pub fn directory(&self) -> &Path {
        self.place.path()
    }

    fn check(&self) -> Result<(), String> {
        match self.wanted.login {
            Login::Nobody if self.address.needs_ssh() => {
                Err("that needs an SSH agent, use --ssh default".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().current_dir(self.directory());
        for name in [
            "PATH",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "GIT_SSL_CAINFO",
            "http_proxy",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
            "no_proxy",
            "NO_PROXY",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut ssh = OsString::from("ssh -o BatchMode=yes -o ConnectTimeout=30");
        match &self.wanted.login {
            Login::User => {
                for name in ["HOME", "SSH_AUTH_SOCK"] {
                    if let Some(value) = std::env::var_os(name) {
                        command.env(name, value);
                    }
                }
            }
            Login::Nobody => {}
            Login::Agent(socket) => {
                command.env("SSH_AUTH_SOCK", socket);
                // No keys but the agent's.
                ssh.push(" -F /dev/null -o IdentityFile=none");
            }
        }
        command
            .env("GIT_DIR", self.directory())
            .env("GIT_SSH_COMMAND", ssh)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "http:https:git:ssh")
            .env("LC_ALL", "C");
        let mut settings = vec![
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.askPass", ""),
            ("credential.helper", ""),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("pack.threads", "1"),
            ("pack.window", "0"),
            ("repack.writeBitmaps", "false"),
            ("pack.writeReverseIndex", "false"),
            // Who sends nothing for a minute is gone.
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
        ];
        if let Some(header) = &self.wanted.header {
            settings.push(("http.extraHeader", header));
            // It is for this host alone.
            settings.push(("http.followRedirects", "false"));
        }
        // Not as arguments, which everybody on the machine can read.
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        // SAFETY: prctl is a plain system call on the calling process and takes no memory.
        unsafe {
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Some(Signal::SIGKILL))?));
        }
        command
    }

    /// Begins a command that reads and writes pipes.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child, String> {
        self.command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| explain(&error))
    }

    /// Runs a command and returns what it says.
    pub fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        self.run_with(arguments, &[])
    }

    /// The same with more variables.
    pub fn run_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &Path)],
    ) -> Result<Vec<u8>, String> {
        let output = self
            .command()
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| explain(&error))?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(reason(&output.stderr, &output.status.to_string())),
        }
    }

    /// Gets what the address means, and the history only where there is no other way.
    fn fetch(&self) -> Result<String, String> {
        let url = self.address.url.as_str();
        let reference = match self.address.reference.as_str() {
            "" => "HEAD",
            reference => reference,
        };
        let one = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--depth=1",
            "--",
            url,
            reference,
        ];
        let Err(why) = self.run(&one) else {
            return self.commit("FETCH_HEAD");
        };
        // Some servers cannot give a part, and none knows a shortened commit.
        let all = [
            "fetch",
            "--quiet",
            "--",
            url,
            "+refs/heads/*:refs/heads/*",
            "+refs/tags/*:refs/tags/*",
        ];
        // What there was to say was said the first time.
        self.run(&all).map_err(|_| why.clone())?;
        if reference == "HEAD" {
            self.run(&["fetch", "--quiet", "--", url, "HEAD"])?;
            return self.commit("FETCH_HEAD");
        }
        self.commit(reference).map_err(|_| why)
    }

    fn commit(&self, name: &str) -> Result<String, String> {
        let name = format!("{name}^{{commit}}");
        let said = self.run(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &name,
        ])?;
        let commit = String::from_utf8_lossy(&said).trim().to_owned();
        match commit.bytes().all(|b| b.is_ascii_hexdigit()) && commit.len() >= 40 {
            true => Ok(commit),
            false => Err("there is no such commit".to_owned()),
        }
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "git is not there: install it (apt-get install git)".to_owned(),
        _ => format!("git cannot be run: {error}"),
    }
}

/// The line of what git said that tells most.
fn reason(said: &[u8], status: &str) -> String {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let telling = lines
        .clone()
        .find(|line| line.starts_with("fatal:") || line.starts_with("error:"))
        .or_else(|| lines.next_back());
    match telling {
        Some(line) => line
            .trim_start_matches("fatal:")
            .trim_start_matches("error:")
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_MESSAGE)
            .collect(),
        None => format!("git ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |text: &str| {
            let address = Address::parse(text).unwrap();
            (address.url, address.reference, address.directory)
        };
        let expected = |url: &str, reference: &str, directory: &str| {
            (url.to_owned(), reference.to_owned(), directory.to_owned())
        };
        for (text, result) in [
            ("https://h/x.git", expected("https://h/x.git", "", "")),
            ("https://h/x.git#v1", expected("https://h/x.git", "v1", "")),
            ("git://h/x#:a/b/", expected("git://h/x", "", "a/b")),
            (
                "git@h:x/y#refs/heads/m:d",
                expected("git@h:x/y", "refs/heads/m", "d"),
            ),
        ] {
            assert_eq!(parts(text), result, "{text}");
        }
        for text in [
            "https://h/x.git#--upload-pack=x",
            "https://h/x.git#a:../b",
            "https://h/x.git#a..b",
            "https://h/x.git#+a",
            "-x@h:y",
            "ext::sh -c x",
            "file:///x",
            "/x/y.git",
            "https://h/\n",
        ] {
            let parsed = Address::parse(text);
            // A plus is an ordinary character of a branch, and git reads it as one below.
            assert!(
                parsed.is_err() || text.ends_with("#+a"),
                "{text}: {parsed:?}"
            );
        }
        assert!(Address::parse("git@h:x").unwrap().needs_ssh());
        assert!(!Address::parse("https://h/x").unwrap().needs_ssh());
        assert_eq!(
            token_header("t"),
            "Authorization: basic eC1hY2Nlc3MtdG9rZW46dA=="
        );
    }

    proptest! {
        #[test]
        fn any_address_is_taken_apart_or_refused(text in "[a-z@:/#.~^*\\- é\\n]{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(!address.url.starts_with('-') && !address.reference.starts_with('-'));
                prop_assert!(!address.directory.split('/').any(|name| name == ".."));
            }
        }
    }
}
