//! Hundreds of clients at once, each doing one thing after another, and a `kill -9` of the server
//! in the middle: no error that docker would not give, bounded memory, no container lost.
//!
//! `HULL_LOAD_SECONDS` and `HULL_LOAD_CLIENTS` set how long and how many; `scripts/load` runs it
//! for three minutes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, ListImagesOptions, ListNetworksOptions, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveVolumeOptions, StartContainerOptions,
    StatsOptionsBuilder, TagImageOptionsBuilder, TopOptions, WaitContainerOptions,
};
use futures_util::TryStreamExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Server;
use crate::harness::Hull;
use crate::matrix::{Dice, number};

const SECONDS: u64 = 6;
const CLIENTS: u64 = 500;
/// Containers that run all the time.
const KEPT: u64 = 6;
/// What the server may have in memory at most, as docs/docker-api.md says.
const MOST_KILOBYTES: u64 = 256 << 10;
/// Longer than anything takes on a machine of two processors that 500 clients share.
const SECONDS_OF_PATIENCE: u64 = 600;

/// What clients do, the lighter things more often.
const WORK: [&str; 20] = [
    "ping", "version", "info", "list", "list", "inspect", "inspect", "logs", "logs", "stats",
    "top", "exec", "exec", "run", "run", "volume", "tag", "images", "networks", "events",
];

/// What all clients share.
struct Load {
    socket: String,
    deadline: Instant,
    /// Odd while no server is there.
    changes: AtomicU64,
    done: Mutex<BTreeMap<&'static str, u64>>,
    broken_off: AtomicU64,
}

#[test]
fn hundreds_of_clients_and_a_kill_in_the_middle() {
    let (seconds, clients) = (
        number("HULL_LOAD_SECONDS", SECONDS),
        number("HULL_LOAD_CLIENTS", CLIENTS),
    );
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let kept: Vec<_> = (0..KEPT)
        .map(|kept| {
            let name = format!("kept-{kept}");
            let script = "for i in 1 2 3; do echo line $i; done; exec sleep 100000";
            hull.background(&["--name", &name, "-m", "64m", "busybox", "sh", "-c", script])
        })
        .collect();
    let begun = || {
        kept.iter()
            .map(|one| hull.field(&one.id, "{{.State.StartedAt}} {{.State.Pid}}"))
    };
    let before: Vec<_> = begun().collect();

    let mut server = Server::new(&hull);
    let load = std::sync::Arc::new(Load {
        socket: server.socket().display().to_string(),
        deadline: Instant::now() + Duration::from_secs(seconds),
        changes: AtomicU64::new(0),
        done: Mutex::default(),
        broken_off: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tasks: Vec<_> = (0..clients)
        .map(|client| runtime.spawn(work(load.clone(), client)))
        .collect();
    let half = Duration::from_secs(seconds) / 2;
    runtime.block_on(async { tokio::time::sleep(half).await });
    let first = peak_kilobytes(server.pid());
    load.changes.fetch_add(1, Ordering::SeqCst);
    server.replace();
    load.changes.fetch_add(1, Ordering::SeqCst);
    let mut errors = Vec::new();
    for task in tasks {
        errors.extend(runtime.block_on(task).unwrap().err());
    }
    let second = peak_kilobytes(server.pid());
    let done = load.done.lock().unwrap().clone();
    eprintln!(
        "{clients} clients, {seconds} s: {} operations, {} broken off by the kill, at most {first} and {second} kB; {done:?}",
        done.values().sum::<u64>(),
        load.broken_off.load(Ordering::SeqCst),
    );
    errors.truncate(20);
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(WORK.iter().all(|kind| done.contains_key(kind)), "{done:?}");
    assert!(
        first.max(second) < MOST_KILOBYTES,
        "{first} and {second} kB"
    );

    assert_eq!(before, begun().collect::<Vec<_>>(), "no container was lost");
    for one in &kept {
        assert_eq!(server.ok(&["exec", &one.id, "echo", "alive"]), "alive");
    }
    // What the kill broke off is there as far as it had come, and can be removed.
    let left = hull.ok(&["ps", "-aq", "-f", "label=load"]);
    let left: Vec<&str> = left.lines().collect();
    if !left.is_empty() {
        hull.ok(&[&["rm", "-f"], left.as_slice()].concat());
    }
    let volumes = hull.ok(&["volume", "ls", "-q", "-f", "label=load"]);
    let volumes: Vec<&str> = volumes.lines().collect();
    if !volumes.is_empty() {
        hull.ok(&[&["volume", "rm"], volumes.as_slice()].concat());
    }
}

/// The most that a process has had in memory.
fn peak_kilobytes(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

async fn work(load: std::sync::Arc<Load>, client: u64) -> Result<(), String> {
    let docker = Docker::connect_with_unix(
        &load.socket,
        SECONDS_OF_PATIENCE,
        bollard::API_DEFAULT_VERSION,
    );
    let docker = docker.map_err(|error| error.to_string())?;
    let mut dice = Dice((client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut round = 0;
    while Instant::now() < load.deadline {
        round += 1;
        let kind = WORK[usize::try_from(dice.below(WORK.len() as u64)).unwrap()];
        let kept = format!("kept-{}", dice.below(KEPT));
        let own = format!("load-{client}-{round}");
        let before = load.changes.load(Ordering::SeqCst);
        let done = one(&docker, kind, &kept, &own).await;
        let after = load.changes.load(Ordering::SeqCst);
        match done {
            Ok(()) => *load.done.lock().unwrap().entry(kind).or_default() += 1,
            // Its server was killed under it, or is not there.
            Err(_) if before != after || before % 2 == 1 => {
                load.broken_off.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            Err(error) => return Err(format!("client {client}, {kind}: {error}")),
        }
    }
    Ok(())
}

fn labels() -> HashMap<String, String> {
    HashMap::from([("load".to_owned(), String::new())])
}

fn wrong(what: impl std::fmt::Debug) -> Error {
    std::io::Error::other(format!("unexpected answer: {what:?}")).into()
}

/// Checks an answer.
fn expect(holds: bool, what: impl std::fmt::Debug) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(wrong(what)) }
}

/// One thing that a client does, and what has to come of it.
async fn one(docker: &Docker, kind: &str, kept: &str, own: &str) -> Result<(), Error> {
    match kind {
        "ping" => expect(docker.ping().await? == "OK", "ping"),
        "version" => expect(docker.version().await?.api_version.is_some(), "version"),
        "info" => {
            let info = docker.info().await?;
            expect(info.containers_running >= Some(KEPT as i64), info)
        }
        "list" => {
            let all = ListContainersOptionsBuilder::default().all(true).build();
            let all = docker.list_containers(Some(all)).await?;
            expect(all.len() as u64 >= KEPT, all.len())
        }
        "inspect" => {
            let seen = docker.inspect_container(kept, None::<InspectContainerOptions>);
            let running = seen.await?.state.and_then(|state| state.running);
            expect(running == Some(true), running)
        }
        "logs" => {
            let options = LogsOptionsBuilder::default().stdout(true).tail("2").build();
            let lines: Vec<_> = docker.logs(kept, Some(options)).try_collect().await?;
            let text: String = lines.iter().map(ToString::to_string).collect();
            expect(text == "line 2\nline 3\n", text)
        }
        "stats" => {
            let options = StatsOptionsBuilder::default().stream(false).one_shot(true);
            let stats: Vec<_> = docker
                .stats(kept, Some(options.build()))
                .try_collect()
                .await?;
            expect(stats.len() == 1, stats)
        }
        "top" => {
            let top = docker.top_processes(kept, None::<TopOptions>).await?;
            expect(
                top.processes.as_ref().is_some_and(|rows| !rows.is_empty()),
                top,
            )
        }
        "exec" => exec(docker, kept, own).await,
        "run" => run(docker, own).await,
        "volume" => {
            let volume = VolumeCreateRequest {
                name: Some(own.to_owned()),
                labels: Some(labels()),
                ..VolumeCreateRequest::default()
            };
            docker.create_volume(volume).await?;
            let seen = docker.inspect_volume(own).await?;
            expect(seen.name == own, seen)?;
            docker.remove_volume(own, None::<RemoveVolumeOptions>).await
        }
        "tag" => {
            let options = TagImageOptionsBuilder::default().repo(own).tag("1").build();
            docker.tag_image("busybox", Some(options)).await?;
            let name = format!("{own}:1");
            let removed = docker.remove_image(&name, None::<RemoveImageOptions>, None);
            let removed = removed.await?;
            expect(removed.len() == 1, removed)
        }
        "images" => {
            let images = docker.list_images(None::<ListImagesOptions>).await?;
            let tags: Vec<_> = images.iter().flat_map(|image| &image.repo_tags).collect();
            expect(tags.iter().any(|tag| *tag == "busybox:latest"), tags)
        }
        "networks" => {
            let networks = docker.list_networks(None::<ListNetworksOptions>).await?;
            expect(!networks.is_empty(), networks)
        }
        "events" => {
            let about = HashMap::from([("container", vec![kept])]);
            let options = EventsOptionsBuilder::default()
                .since("0")
                .until("1")
                .filters(&about);
            let events: Vec<_> = docker.events(Some(options.build())).try_collect().await?;
            expect(events.is_empty(), events)
        }
        other => Err(wrong(other)),
    }
}

async fn exec(docker: &Docker, kept: &str, own: &str) -> Result<(), Error> {
    let config = ExecConfig {
        cmd: Some(["echo", own].map(str::to_owned).to_vec()),
        attach_stdout: Some(true),
        ..ExecConfig::default()
    };
    let id = docker.create_exec(kept, config).await?.id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&id, None).await? else {
        return Err(wrong("detached"));
    };
    let pieces: Vec<_> = output.try_collect().await?;
    let text: String = pieces.iter().map(ToString::to_string).collect();
    expect(text.trim() == own, text)?;
    let code = docker.inspect_exec(&id).await?.exit_code;
    expect(code == Some(0), code)
}

async fn run(docker: &Docker, own: &str) -> Result<(), Error> {
    let body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: Some(
            ["sh", "-c", "echo $0; exit 3", own]
                .map(str::to_owned)
                .to_vec(),
        ),
        labels: Some(labels()),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptionsBuilder::default().name(own).build();
    docker.create_container(Some(named), body).await?;
    let started = docker.start_container(own, None::<StartContainerOptions>);
    started.await?;
    let waited = docker.wait_container(own, None::<WaitContainerOptions>);
    match waited.try_collect::<Vec<_>>().await {
        Err(Error::DockerContainerWaitError { code: 3, .. }) => {}
        other => return Err(wrong(other)),
    }
    let options = LogsOptionsBuilder::default().stdout(true).build();
    let lines: Vec<_> = docker.logs(own, Some(options)).try_collect().await?;
    let text: String = lines.iter().map(ToString::to_string).collect();
    expect(text.trim() == own, text)?;
    let options = RemoveContainerOptionsBuilder::default().build();
    docker.remove_container(own, Some(options)).await
}
