//! What is answered has the form that the engine's own OpenAPI file gives it: real clients talk to
//! the server through a recorder, which holds every answer against that file.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Server, compose, sdk};
use crate::harness::{Hull, repository};
use crate::login::Registry;

/// What must have been answered, or the session has shown nothing.
const OPERATIONS: [&str; 62] = [
    "delete /containers/{id}",
    "delete /images/{name}",
    "delete /networks/{id}",
    "delete /volumes/{name}",
    "get /_ping",
    "get /containers/json",
    "get /containers/{id}/archive",
    "get /containers/{id}/attach/ws",
    "get /containers/{id}/changes",
    "get /containers/{id}/export",
    "get /containers/{id}/json",
    "get /containers/{id}/logs",
    "get /containers/{id}/stats",
    "get /containers/{id}/top",
    "get /events",
    "get /exec/{id}/json",
    "get /images/get",
    "get /images/json",
    "get /images/search",
    "get /images/{name}/get",
    "get /images/{name}/history",
    "get /images/{name}/json",
    "get /info",
    "get /networks",
    "get /networks/{id}",
    "get /plugins",
    "get /plugins/{name}/json",
    "get /system/df",
    "get /version",
    "get /volumes",
    "get /volumes/{name}",
    "head /_ping",
    "head /containers/{id}/archive",
    "post /auth",
    "post /build",
    "post /build/prune",
    "post /commit",
    "post /containers/create",
    "post /containers/prune",
    "post /containers/{id}/attach",
    "post /containers/{id}/exec",
    "post /containers/{id}/kill",
    "post /containers/{id}/pause",
    "post /containers/{id}/rename",
    "post /containers/{id}/resize",
    "post /containers/{id}/restart",
    "post /containers/{id}/start",
    "post /containers/{id}/stop",
    "post /containers/{id}/unpause",
    "post /containers/{id}/update",
    "post /containers/{id}/wait",
    "post /exec/{id}/resize",
    "post /exec/{id}/start",
    "post /images/create",
    "post /images/load",
    "post /images/prune",
    "post /images/{name}/push",
    "post /images/{name}/tag",
    "post /networks/create",
    "post /networks/{id}/connect",
    "post /networks/{id}/disconnect",
    "post /networks/prune",
];

#[test]
fn every_answer_has_the_form_that_the_engine_gives_it() {
    let hull = Hull::fresh();
    let server = Server::new(&hull);
    let contract = repository().join("target/clients/engine/swagger.yaml");
    assert!(contract.is_file(), "make test gets it: scripts/clients");
    let directory = tempfile::tempdir().unwrap();
    let through = directory.path().join("recorded.sock");
    let mut recorder = Command::new("/usr/bin/python3")
        .arg(repository().join("tests/clients/schema/check.py"))
        .args([&contract, &through, server.socket()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(recorder.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "listening");

    let session = Session {
        host: format!("unix://{}", through.display()),
        config: directory.path().join("docker"),
    };
    session.docker_py();
    session.containers(directory.path());
    session.images(directory.path());
    session.things();
    session.compose(directory.path());
    session.errors();
    raw(&through);

    drop(recorder.stdin.take());
    let said: Vec<String> = said.map(Result::unwrap).collect();
    assert!(recorder.wait().unwrap().success(), "{said:#?}");
    let end = said.iter().position(|line| line == "WRONG").unwrap();
    let (seen, wrong) = (&said[..end], &said[end + 1..]);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let missing: Vec<_> = OPERATIONS
        .iter()
        .filter(|operation| !seen.iter().any(|line| line.starts_with(**operation)))
        .collect();
    assert!(
        missing.is_empty(),
        "not asked for: {missing:#?}, but {seen:#?}"
    );
}

/// Clients that are led through the recorder.
struct Session {
    host: String,
    config: std::path::PathBuf,
}

impl Session {
    fn point<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_CONFIG", &self.config)
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
    }

    fn output(&self, line: &str) -> std::process::Output {
        let words = shell_words(line);
        let mut command = Command::new("docker");
        self.point(command.args(&words)).output().unwrap()
    }

    #[track_caller]
    fn docker(&self, lines: &[&str]) {
        for line in lines {
            let output = self.output(line);
            assert!(output.status.success(), "docker {line}: {output:?}");
        }
    }

    #[track_caller]
    fn refused(&self, lines: &[&str]) {
        for line in lines {
            let output = self.output(line);
            assert!(!output.status.success(), "docker {line}: {output:?}");
        }
    }

    fn docker_py(&self) {
        let mut command = Command::new(repository().join("target/clients/docker-py/bin/python"));
        command
            .arg(repository().join("tests/clients/docker-py/session.py"))
            .arg("schema");
        let output = self.point(&mut command).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            sdk::SAID,
            "{output:?}"
        );
    }

    fn containers(&self, directory: &Path) {
        let file = directory.join("file").display().to_string();
        std::fs::write(&file, "content").unwrap();
        let create = "create --name all --hostname host --domainname example.org --user 1:2 --workdir /tmp \
            --env A=B --label of=schema --memory 96m --cpus 1.5 --restart on-failure:3 --stop-timeout 5 \
            --stop-signal INT --health-cmd true --health-interval 1s --cap-add NET_ADMIN --cap-drop MKNOD \
            --ulimit nofile=64:128 --tmpfs /t:size=1m --shm-size 8m --volume named:/v --volume /w \
            --mount type=bind,source=DIR,target=/b,readonly --dns 1.2.3.4 --dns-search x --add-host a:1.2.3.4 \
            --publish 127.0.0.1::80 --expose 81 --read-only --init --log-opt max-size=1m --sysctl kernel.msgmax=9000 \
            --interactive --tty --entrypoint sh busybox -c 'echo $A; exec sleep 1000'";
        self.docker(&[
            &create.replace("DIR", &directory.display().to_string()),
            "start all",
            "inspect all",
            "exec all true",
            "port all",
            "ps -a --size",
            "container ls --filter health=starting",
            "rm -f all",
            "run -d --name plain busybox sh -c 'echo out; echo err >&2; exec sleep 1000'",
            "logs plain",
            "logs --timestamps --tail 1 plain",
            "top plain",
            "stats --no-stream plain",
            "pause plain",
            "inspect plain",
            "unpause plain",
            "update --memory 96m --restart always plain",
            "rename plain renamed",
            "exec renamed sh -c 'exit 0'",
            "exec -d renamed true",
            "diff renamed",
            "restart -t 0 renamed",
            "kill renamed",
            "stop renamed",
            "wait renamed",
            "inspect --size renamed",
            "commit --author me --message why --change 'CMD true' renamed committed:1",
            "create --name other busybox",
            "container prune -f",
        ]);
        self.docker(&["run -d --name files busybox sleep 1000"]);
        self.docker(&[
            &format!("cp {file} files:/tmp/file"),
            &format!("cp files:/tmp/file {file}.back"),
            &format!("export -o {file}.tar files"),
            "rm -f files",
        ]);
        // A terminal has a size, and says so after the start.
        for line in [
            "docker run --rm -it busybox true",
            "docker run -d --name tt busybox sleep 1000 && docker exec -it tt true",
        ] {
            let mut command = Command::new("script");
            command.args([
                "-qec",
                &format!("stty rows 33 cols 77; {line}"),
                "/dev/null",
            ]);
            let output = self.point(&mut command).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        self.docker(&["rm -f tt"]);
    }

    fn images(&self, directory: &Path) {
        let registry = Registry::start();
        let address = &registry.address;
        let saved = directory.join("saved.tar").display().to_string();
        let context = directory.join("context");
        std::fs::create_dir(&context).unwrap();
        let dockerfile = "FROM busybox\nENV A=B\nEXPOSE 80\nVOLUME /v\nHEALTHCHECK CMD true\nLABEL x=y\nONBUILD RUN true\nRUN echo built\nCMD true\n";
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let context = context.display().to_string();
        self.docker(&[
            "images --all --no-trunc",
            "images --filter dangling=true",
            "history busybox",
            "image inspect committed:1 busybox",
            &format!("build -t built:1 {context}"),
            &format!("build -q {context}"),
            "image inspect built:1",
            "history built:1",
            &format!("save -o {saved} built:1"),
            &format!("save -o {saved} built:1 busybox"),
            &format!("load -i {saved}"),
            &format!("import {saved} imported:1"),
            &format!("tag busybox {address}/private/box"),
            &format!("login -u me -p word {address}"),
            &format!("push {address}/private/box"),
            &format!("rmi {address}/private/box"),
            &format!("pull {address}/private/box"),
            &format!("logout {address}"),
            &format!("rmi {address}/private/box imported:1"),
            "builder prune -f",
            "image prune -f",
        ]);
        self.refused(&[
            &format!("login -u me -p wrong {address}"),
            &format!("pull {address}/private/nothing"),
            "pull no-such-image",
            &format!("build --target nowhere {context}"),
            "search busybox",
        ]);
    }

    fn things(&self) {
        self.docker(&[
            "version",
            "info",
            "system df -v",
            "events --since 1 --until 0s --filter event=create",
            "volume create --label a=b vol",
            "volume ls --filter label=a=b",
            "volume inspect vol",
            "volume rm vol",
            "volume prune -af",
            "network create --label a=b --subnet 10.77.0.0/24 --gateway 10.77.0.1 net",
            "network create --internal --ipv6 --subnet fd00:77::/64 six",
            "network ls",
            "run -d --name member --network net --network-alias me --ip 10.77.0.9 busybox sleep 1000",
            "network inspect net six bridge",
            "network connect --alias there six member",
            "inspect member",
            "network disconnect six member",
            "rm -f member",
            "network rm net",
            "network prune -f",
            "plugin ls",
            "system prune -af --volumes",
        ]);
    }

    fn compose(&self, directory: &Path) {
        let file = directory.join("compose.yml").display().to_string();
        let project = "services:\n  a: {image: busybox, command: sleep 1000, volumes: [\"data:/d\"]}\n  b: {image: busybox, command: sleep 1000, depends_on: [a], ports: [\"80\"]}\nvolumes: {data: {}}\n";
        std::fs::write(&file, project).unwrap();
        for line in [
            "up -d",
            "ps -a",
            "images",
            "top",
            "logs",
            "stop -t 0",
            "down -v -t 0",
        ] {
            let mut command = Command::new(compose::program());
            command
                .args(["-f", &file, "-p", "schema"])
                .args(line.split(' '));
            let output = self.point(&mut command).output().unwrap();
            assert!(output.status.success(), "compose {line}: {output:?}");
        }
    }

    /// Things that are not there, twice, and not allowed.
    fn errors(&self) {
        self.docker(&[
            "pull busybox",
            "create --name taken busybox true",
            "volume create used",
            "start taken",
        ]);
        self.refused(&[
            "inspect no-such",
            "start no-such",
            "run --rm --pull never no-such",
            "create --name taken busybox",
            "run --rm busybox no-such-program",
            "run --rm --network no-such busybox",
            "exec taken true",
            "kill taken",
            "rmi busybox",
            "network rm bridge",
            "network rm no-such",
            "volume rm no-such",
            "cp taken:/no/such /tmp/x",
            "swarm init",
            "logs no-such",
        ]);
        self.docker(&["rm taken"]);
    }
}

/// What no client of these asks for.
fn raw(socket: &Path) {
    use std::io::{Read, Write};
    for request in [
        "GET /_ping",
        "GET /v1.44/plugins",
        "GET /images/no-such/get",
        "GET /containers/no-such/attach/ws",
        "POST /session",
        "POST /grpc",
        "GET /containers/json?filters=%7B",
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{request}: {answer}");
    }
}

/// Words as a shell has them: single quotes hold spaces.
pub fn shell_words(line: &str) -> Vec<String> {
    let pieces = line.split('\'').enumerate();
    let words = pieces.flat_map(|(number, piece)| match number % 2 {
        0 => piece.split_whitespace().map(str::to_owned).collect(),
        _ => vec![piece.to_owned()],
    });
    words.collect()
}
