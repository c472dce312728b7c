//! bollard, the library of Docker's API for Rust, does what the other libraries do in `sdk`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{
    ContainerCreateBody, ExecConfig, HostConfig, Mount, MountType, NetworkCreateRequest,
    VolumeCreateRequest,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, BuildImageOptionsBuilder, CreateContainerOptionsBuilder,
    CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder, EventsOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptions, RemoveImageOptions,
    RemoveVolumeOptions, StartContainerOptions, StatsOptionsBuilder, StopContainerOptionsBuilder,
    TopOptions, UploadToContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

use super::Server;
use super::sdk::{SAID, clear};
use crate::harness::{Hull, PATIENCE};

const NAME: &str = "sdk-rust";
const IMAGE: &str = "sdk-rust:1";

#[test]
fn bollard() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    clear(&hull, NAME);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let socket = server.socket().display().to_string();
    let said = runtime.block_on(async {
        let docker = Docker::connect_with_unix(&socket, 120, bollard::API_DEFAULT_VERSION).unwrap();
        let docker = docker.negotiate_version().await.unwrap();
        tokio::time::timeout(PATIENCE, session(&docker)).await
    });
    if !matches!(said, Ok(Ok(_))) {
        clear(&hull, NAME);
    }
    assert_eq!(said.unwrap().unwrap(), SAID);
}

async fn session(docker: &Docker) -> Result<String, Error> {
    let mut said = String::new();
    docker.ping().await?;
    let image = CreateImageOptionsBuilder::default().from_image("busybox:latest");
    let pulled = docker.create_image(Some(image.build()), None, None);
    pulled.try_collect::<Vec<_>>().await?;
    let tags = docker.inspect_image("busybox").await?.repo_tags;
    say(&mut said, &format!("pulled {}", tags.unwrap().join(" ")));

    let dockerfile = b"FROM busybox\nRUN echo from a file > /x\nCMD cat /x\n";
    let context = bollard::body_full(archive("Dockerfile", dockerfile, 0).into());
    let options = BuildImageOptionsBuilder::default().t(IMAGE).rm(true);
    let built = docker.build_image(options.build(), None, Some(context));
    built.try_collect::<Vec<_>>().await?;
    let read = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        ..ContainerCreateBody::default()
    };
    let ended = run(docker, read, b"").await?;
    say(&mut said, &format!("built {}", ended.stdout));

    let upper = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        ..script("tr a-z A-Z; echo done >&2; exit 3")
    };
    let ended = run(docker, upper, b"hello\n").await?;
    let Ended {
        stdout,
        stderr,
        code,
    } = ended;
    say(&mut said, &format!("streams {stdout} {stderr} {code}"));

    with_a_server(docker, &mut said).await?;

    docker.remove_network(NAME).await?;
    let volume = docker.remove_volume(NAME, None::<RemoveVolumeOptions>);
    volume.await?;
    let image = docker.remove_image(IMAGE, None::<RemoveImageOptions>, None);
    image.await?;
    match docker.inspect_image(IMAGE).await {
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => say(&mut said, "cleaned up"),
        other => panic!("{other:?}"),
    }
    Ok(said)
}

/// What needs a container that goes on.
async fn with_a_server(docker: &Docker, said: &mut String) -> Result<(), Error> {
    let of = HashMap::from([("of".to_owned(), NAME.to_owned())]);
    let volume = VolumeCreateRequest {
        name: Some(NAME.to_owned()),
        labels: Some(of.clone()),
        ..VolumeCreateRequest::default()
    };
    docker.create_volume(volume).await?;
    let network = NetworkCreateRequest {
        name: NAME.to_owned(),
        labels: Some(of.clone()),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(network).await?;
    let serve =
        "for i in one two three; do echo $i; done; echo page > /index.html; exec httpd -f -h /";
    let web = ContainerCreateBody {
        labels: Some(of),
        host_config: Some(HostConfig {
            network_mode: Some(NAME.to_owned()),
            binds: Some(vec![format!("{NAME}:/data")]),
            ..HostConfig::default()
        }),
        ..script(serve)
    };
    let named = CreateContainerOptionsBuilder::default().name(NAME).build();
    let id = docker.create_container(Some(named), web).await?.id;
    docker
        .start_container(NAME, None::<StartContainerOptions>)
        .await?;

    let options = LogsOptionsBuilder::default().follow(true).stdout(true);
    let mut logs = docker.logs(NAME, Some(options.build()));
    let mut logged = String::new();
    while !logged.contains("three") {
        write!(logged, "{}", logs.next().await.unwrap()?).unwrap();
    }
    drop(logs);
    say(said, &format!("logs {}", logged.trim().replace('\n', " ")));

    let ended = exec(docker, "echo out; echo err >&2; exit 4").await?;
    let Ended {
        stdout,
        stderr,
        code,
    } = ended;
    say(said, &format!("exec {stdout} {stderr} {code}"));

    let options = UploadToContainerOptionsBuilder::default().path("/tmp");
    let body = bollard::body_full(archive("file", b"abc", 7).into());
    docker
        .upload_to_container(NAME, Some(options.build()), body)
        .await?;
    let options = DownloadFromContainerOptionsBuilder::default().path("/tmp/file");
    let pieces = docker.download_from_container(NAME, Some(options.build()));
    let bytes = pieces.try_collect::<Vec<_>>().await?.concat();
    let mut copied = tar::Archive::new(Cursor::new(bytes));
    let mut entry = copied.entries().unwrap().next().unwrap().unwrap();
    let mut content = String::new();
    entry.read_to_string(&mut content).unwrap();
    let (path, owner) = (entry.path().unwrap(), entry.header().uid().unwrap());
    say(
        said,
        &format!("copied {} {content} {owner}", path.display()),
    );

    exec(docker, "echo kept > /data/x").await?;
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(NAME.to_owned()),
        target: Some("/data".to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    let host = HostConfig {
        mounts: Some(vec![mount]),
        network_mode: Some(NAME.to_owned()),
        ..HostConfig::default()
    };
    let reader = ContainerCreateBody {
        host_config: Some(host),
        ..script("cat /data/x")
    };
    let ended = run(docker, reader.clone(), b"").await?;
    say(said, &format!("volume {}", ended.stdout));
    let fetch = format!("until wget -qO- http://{NAME}/ 2>/dev/null; do sleep 0.1; done");
    let fetcher = ContainerCreateBody {
        cmd: script(&fetch).cmd,
        ..reader
    };
    let ended = run(docker, fetcher, b"").await?;
    say(said, &format!("network {}", ended.stdout));
    end(docker, &id, said).await
}

/// What there is to know of the server, and its end.
async fn end(docker: &Docker, id: &str, said: &mut String) -> Result<(), Error> {
    let labelled = HashMap::from([("label", vec![format!("of={NAME}")])]);
    let options = ListContainersOptionsBuilder::default().filters(&labelled);
    let listed = docker.list_containers(Some(options.build())).await?;
    let names: Vec<_> = listed.into_iter().flat_map(|one| one.names).collect();
    assert_eq!(names, [[format!("/{NAME}")]]);
    let options = StatsOptionsBuilder::default().stream(false).build();
    let stats = docker.stats(NAME, Some(options)).next().await.unwrap()?;
    assert_eq!(stats.memory_stats.unwrap().limit, Some(512 << 20));
    let top = docker.top_processes(NAME, None::<TopOptions>).await?;
    let rows = top.processes.unwrap();
    assert!(rows.iter().any(|row| row.join(" ").contains("httpd")));
    let options = StopContainerOptionsBuilder::default().t(0).build();
    docker.stop_container(NAME, Some(options)).await?;
    say(said, &format!("ended {}", wait(docker, NAME).await?));
    docker
        .remove_container(NAME, None::<RemoveContainerOptions>)
        .await?;

    let about = HashMap::from([("container", vec![id])]);
    let options = EventsOptionsBuilder::default().since("0").filters(&about);
    let mut events = Box::pin(docker.events(Some(options.build())));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|action| action != "destroy") {
        let action = events.next().await.unwrap()?.action.unwrap();
        if ["create", "start", "die", "destroy"].contains(&action.as_str()) {
            seen.push(action);
        }
    }
    say(said, &format!("events {}", seen.join(" ")));
    Ok(())
}

fn say(said: &mut String, line: &str) {
    writeln!(said, "{line}").unwrap();
}

/// A container of busybox's shell.
fn script(text: &str) -> ContainerCreateBody {
    let command = ["sh", "-c", text].map(str::to_owned).to_vec();
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: Some(command),
        ..ContainerCreateBody::default()
    }
}

/// An archive of one file.
fn archive(name: &str, content: &[u8], owner: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(owner);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

/// How a process ended and what it wrote.
struct Ended {
    stdout: String,
    stderr: String,
    code: i64,
}

impl Ended {
    async fn read(
        output: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
    ) -> Result<Self, Error> {
        let pieces: Vec<_> = output.try_collect().await?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for piece in &pieces {
            match piece {
                LogOutput::StdErr { .. } => write!(stderr, "{piece}").unwrap(),
                _ => write!(stdout, "{piece}").unwrap(),
            }
        }
        Ok(Self {
            stdout: stdout.trim().to_owned(),
            stderr: stderr.trim().to_owned(),
            code: 0,
        })
    }
}

/// Runs a container that is gone then.
async fn run(docker: &Docker, body: ContainerCreateBody, input: &[u8]) -> Result<Ended, Error> {
    let unnamed = CreateContainerOptionsBuilder::default().build();
    let id = docker.create_container(Some(unnamed), body).await?.id;
    let options = AttachContainerOptionsBuilder::default()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true);
    let mut attached = docker.attach_container(&id, Some(options.build())).await?;
    docker
        .start_container(&id, None::<StartContainerOptions>)
        .await?;
    attached.input.write_all(input).await?;
    attached.input.shutdown().await?;
    let mut ended = Ended::read(attached.output).await?;
    ended.code = wait(docker, &id).await?;
    docker
        .remove_container(&id, None::<RemoveContainerOptions>)
        .await?;
    Ok(ended)
}

async fn exec(docker: &Docker, text: &str) -> Result<Ended, Error> {
    let config = ExecConfig {
        cmd: script(text).cmd,
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let id = docker.create_exec(NAME, config).await?.id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&id, None).await? else {
        panic!("it is not detached");
    };
    let mut ended = Ended::read(output).await?;
    ended.code = docker.inspect_exec(&id).await?.exit_code.unwrap();
    Ok(ended)
}

/// A container's exit code, which bollard has for an error where it is not zero.
async fn wait(docker: &Docker, id: &str) -> Result<i64, Error> {
    let mut waited = docker.wait_container(id, None::<WaitContainerOptions>);
    match waited.next().await.unwrap() {
        Ok(ended) => Ok(ended.status_code),
        Err(Error::DockerContainerWaitError { code, .. }) => Ok(code),
        Err(error) => Err(error),
    }
}
