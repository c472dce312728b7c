//! `exec`: processes that are made first and started later, as docker's API has them.
//!
//! What is remembered of them goes with the server, as it does with docker's; the processes are
//! their containers' and stay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use guest_agent::protocol::{
    Exec as AgentExec, Exit, Frame, FrameKind, Request, Resize, Stdio, WindowSize,
};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::containers::attach::in_tokio;
use super::error::ApiError;
use super::hijack::{self, Terms};
use super::relay::{self, Feed};
use super::reply::{Reply, json, json_as, with_status};
use super::request::Call;
use super::router;
use super::state::{Shared, lock};
use crate::container::spec::{ProcessOptions, process_spec};
use crate::container::{Container, client, detach, guest, id, lifecycle};
use crate::events::Note;

/// Processes that are remembered; the oldest that has ended, or else the oldest, goes.
const REMEMBERED: usize = 4096;

/// What a terminal begins with: the shell that people like better, where there is one.
const SHELL: &str = "command -v bash > /dev/null 2>&1 && exec bash; exec sh";

/// All processes of `exec`.
#[derive(Debug, Default)]
pub struct Execs(Mutex<VecDeque<Arc<Exec>>>);

/// One of them.
#[derive(Debug)]
struct Exec {
    id: String,
    container: String,
    asked: Asked,
    progress: Mutex<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Made,
    Running,
    Ended(i32),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    attach_stdin: Option<bool>,
    attach_stdout: Option<bool>,
    attach_stderr: Option<bool>,
    detach_keys: Option<String>,
    tty: Option<bool>,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    privileged: Option<bool>,
    user: Option<String>,
    working_dir: Option<String>,
    console_size: Option<[u16; 2]>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    detach: Option<bool>,
    console_size: Option<[u16; 2]>,
}

impl Execs {
    fn add(&self, exec: Exec) {
        let mut execs = lock(&self.0);
        if execs.len() >= REMEMBERED {
            let ended = |exec: &Arc<Exec>| matches!(*lock(&exec.progress), Progress::Ended(_));
            let oldest = execs.iter().position(ended).unwrap_or(0);
            execs.remove(oldest);
        }
        execs.push_back(Arc::new(exec));
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>, ApiError> {
        let execs = lock(&self.0);
        let found = execs.iter().find(|exec| exec.id == id).cloned();
        found.ok_or_else(|| ApiError::missing(format!("No such exec instance: {id}")))
    }

    /// Those of a container that run, for `inspect`.
    pub fn of_container(&self, container: &str) -> Value {
        let execs = lock(&self.0);
        let own = execs.iter().filter(|exec| {
            exec.container == container && *lock(&exec.progress) == Progress::Running
        });
        let ids: Vec<&str> = own.map(|exec| exec.id.as_str()).collect();
        match ids.is_empty() {
            true => Value::Null,
            false => json!(ids),
        }
    }
}

/// `POST /containers/ID/exec`.
pub async fn create(state: Shared, mut call: Call, name: String) -> Reply {
    let asked: Asked = call.json().await?;
    if asked.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad("No exec command specified"));
    }
    let keys = asked.detach_keys.as_deref().unwrap_or_default();
    detach::parse_detach_keys(keys).map_err(|error| ApiError::bad(error.to_string()))?;
    let exec = state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            lifecycle::must_be_active(&container)?;
            let exec = Exec {
                id: id::generate()?,
                container: container.id,
                asked,
                progress: Mutex::new(Progress::Made),
            };
            context.note_container(&exec.container, &[exec.note("create")])?;
            Ok(exec)
        })
        .await?;
    let value = json!({"Id": exec.id});
    state.execs.add(exec);
    Ok(json_as(StatusCode::CREATED, &value))
}

/// Answers for `/exec/…`.
pub async fn route(state: Shared, call: Call, rest: &[&str]) -> Reply {
    let method = call.method.clone();
    match (&method, rest) {
        (&Method::POST, [id, "start"]) => start(state, call, id).await,
        (&Method::POST, [id, "resize"]) => resize(state, call, id).await,
        (&Method::GET, [id, "json"]) => Ok(json(&state.execs.find(id)?.value())),
        _ => Err(router::no_such_page()),
    }
}

async fn start(state: Shared, mut call: Call, id: &str) -> Reply {
    let asked: Start = call.json().await?;
    let exec = state.execs.find(id)?;
    let container = exec.container.clone();
    let container = state
        .work(move |context| {
            let container = lifecycle::find(context, &container)?;
            lifecycle::must_be_active(&container)?;
            Ok(container)
        })
        .await?;
    {
        let mut progress = lock(&exec.progress);
        if *progress != Progress::Made {
            let message = format!("Error: Exec command {id} is already running");
            return Err(ApiError::conflict(message));
        }
        *progress = Progress::Running;
    }
    let tty = exec.asked.tty.unwrap_or(false);
    let size = asked.console_size.or(exec.asked.console_size);
    if asked.detach.unwrap_or(false) {
        begin(&state, &exec, container, size).await?;
        return Ok(with_status(StatusCode::OK));
    }
    let keys = exec.asked.detach_keys.as_deref();
    let keys = keys
        .filter(|keys| !keys.is_empty())
        .unwrap_or(detach::DETACH_KEYS);
    let terms = Terms {
        tty,
        stdin: exec.asked.attach_stdin.unwrap_or(false),
        stdout: exec.asked.attach_stdout.unwrap_or(false),
        stderr: exec.asked.attach_stderr.unwrap_or(false),
        keys: detach::parse_detach_keys(keys).map_err(|error| ApiError::bad(error.to_string()))?,
        socket: false,
    };
    let feed = async move {
        match begin(&state, &exec, container, size).await {
            Ok(feed) => Some(feed),
            // As docker, whose answer has begun by then.
            Err(error) => told(&error.message).await,
        }
    };
    hijack::attach(call, terms, Vec::new(), feed)
}

/// A shell with a terminal of this many rows and columns in a container, and its id.
pub async fn shell(
    state: &Shared,
    container: &str,
    size: [u16; 2],
) -> Result<(String, Feed), ApiError> {
    let name = container.to_owned();
    let (exec, container) = state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            lifecycle::must_be_active(&container)?;
            let asked = Asked {
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                tty: Some(true),
                env: Some(vec!["TERM=xterm".to_owned()]),
                cmd: Some(["sh", "-c", SHELL].map(str::to_owned).to_vec()),
                ..Asked::default()
            };
            let exec = Exec {
                id: id::generate()?,
                container: container.id.clone(),
                asked,
                progress: Mutex::new(Progress::Running),
            };
            Ok((Arc::new(exec), container))
        })
        .await?;
    let feed = begin(state, &exec, container, Some(size)).await?;
    Ok((exec.id.clone(), feed))
}

/// A process that only says what went wrong.
async fn told(message: &str) -> Option<Feed> {
    let (sender, output) = mpsc::channel(1);
    let (input, _) = mpsc::channel(1);
    let frame = Frame {
        kind: FrameKind::Stdout,
        payload: format!("{message}\r\n").into_bytes(),
    };
    sender.send(Arc::new(frame)).await.ok()?;
    Some(Feed { output, input })
}

/// Starts the process; how it ends is remembered whether or not the client is still there.
async fn begin(
    state: &Shared,
    exec: &Arc<Exec>,
    container: Container,
    size: Option<[u16; 2]>,
) -> Result<Feed, ApiError> {
    let starting = exec.clone();
    let begun = state
        .work(move |context| {
            let mut stream = client::agent(context, &container)?;
            let request = starting.request(&container, size)?;
            guest::ask(&mut stream, request).map_err(|error| {
                *lock(&starting.progress) = Progress::Ended(error.exit_code());
                ApiError::from(error)
            })?;
            context.note_container(&container.id, &[starting.note("start")])?;
            Ok(stream)
        })
        .await;
    let stream = begun.inspect_err(|_| {
        let mut progress = lock(&exec.progress);
        if *progress == Progress::Running {
            *progress = Progress::Ended(125);
        }
    })?;
    let (ending, shared) = (exec.clone(), state.clone());
    let ended = move |exit: Option<Exit>| {
        // A container that ends takes its processes with it.
        let code = exit.map_or(137, |exit| exit.code);
        *lock(&ending.progress) = Progress::Ended(code);
        tokio::spawn(note_end(shared, ending, code));
    };
    let end = relay::ToTheEnd {
        ended: Box::new(ended),
        // Nobody can come back to it, as one can to a container's first process.
        close: !exec.asked.tty.unwrap_or(false),
    };
    let feed = relay::start(in_tokio(stream)?, 1, Some(end)).pop();
    feed.ok_or_else(|| ApiError::broken(anyhow::anyhow!("starting a process for nobody")))
}

async fn note_end(state: Shared, exec: Arc<Exec>, code: i32) {
    let noted = state.work(move |context| {
        let died = exec.note("die").with("exitCode", code);
        Ok(context.note_container(&exec.container, &[died])?)
    });
    if let Err(error) = noted.await {
        eprintln!("hull: writing down the end of a process: {}", error.message);
    }
}

async fn resize(state: Shared, call: Call, id: &str) -> Reply {
    let exec = state.execs.find(id)?;
    let rows = call.query.number("h")?.unwrap_or(0);
    let columns = call.query.number("w")?.unwrap_or(0);
    if *lock(&exec.progress) != Progress::Running {
        return Err(ApiError::conflict(format!("exec {id} is not running")));
    }
    state
        .work(move |context| {
            let container = lifecycle::find(context, &exec.container)?;
            let resize = Resize {
                process: exec.process().to_owned(),
                size: WindowSize { rows, columns },
            };
            client::ask_agent(context, &container, Request::Resize(resize))?;
            Ok(())
        })
        .await?;
    Ok(with_status(StatusCode::OK))
}

impl Exec {
    /// Its name for the agent.
    fn process(&self) -> &str {
        self.id.get(..16).unwrap_or(&self.id)
    }

    fn request(&self, container: &Container, size: Option<[u16; 2]>) -> Result<Request, ApiError> {
        let (asked, config) = (&self.asked, &container.config);
        let tty = asked.tty.unwrap_or(false);
        let env = asked.env.iter().flatten();
        let options = ProcessOptions {
            argv: asked.cmd.clone().unwrap_or_default(),
            env: env
                .filter(|variable| variable.contains('='))
                .cloned()
                .collect(),
            working_dir: asked.working_dir.clone().filter(|dir| !dir.is_empty()),
            tty,
            privileged: asked.privileged.unwrap_or(false) || config.privileged,
        };
        let process = process_spec(config, &options).map_err(|e| ApiError::bad(e.to_string()))?;
        let user = asked.user.clone().filter(|user| !user.is_empty());
        let window = size.map(|[rows, columns]| WindowSize { rows, columns });
        Ok(Request::Exec(Box::new(AgentExec {
            id: self.process().to_owned(),
            process,
            user: user.unwrap_or_else(|| config.user.clone()),
            groups: config.groups.clone(),
            stdio: Stdio {
                stdin: asked.attach_stdin.unwrap_or(false),
                terminal: tty.then(|| window.unwrap_or_default()),
            },
        })))
    }

    fn note(&self, step: &str) -> Note {
        let note = match step {
            "die" => Note::new("exec_die"),
            step => {
                let line = self.asked.cmd.clone().unwrap_or_default().join(" ");
                Note::new(format!("exec_{step}: {line}"))
            }
        };
        note.with("execID", &self.id)
    }

    fn value(&self) -> Value {
        let (running, code) = match *lock(&self.progress) {
            Progress::Made => (false, None),
            Progress::Running => (true, None),
            Progress::Ended(code) => (false, Some(code)),
        };
        let asked = &self.asked;
        let words = asked.cmd.clone().unwrap_or_default();
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
        json!({
            "ID": self.id,
            "Running": running,
            "ExitCode": code,
            "ProcessConfig": {
                "tty": asked.tty.unwrap_or(false),
                "entrypoint": program,
                "arguments": arguments,
                "privileged": asked.privileged.unwrap_or(false),
                "user": asked.user.clone().unwrap_or_default(),
            },
            "OpenStdin": asked.attach_stdin.unwrap_or(false),
            "OpenStdout": asked.attach_stdout.unwrap_or(false),
            "OpenStderr": asked.attach_stderr.unwrap_or(false),
            "CanRemove": code.is_some(),
            "ContainerID": self.container,
            "DetachKeys": asked.detach_keys.clone().unwrap_or_default(),
            "Pid": 0,
        })
    }
}
