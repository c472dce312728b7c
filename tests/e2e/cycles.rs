//! Hundreds of containers come and go, and the host is as it was before: counted in namespaces
//! of the test's own, where nothing else happens that could be taken for theirs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Hull, eventually};

/// How many, where `HULL_TEST_CYCLES` does not say.
const CYCLES: usize = 200;
/// How many at the same time.
const WORKERS: usize = 4;

/// Processes, mounts, networks and shared memory that are nobody else's.
struct World {
    unshare: Child,
    /// The first process in it.
    init: i32,
}

impl World {
    fn new() -> Self {
        let user: &[&str] = match nix::unistd::geteuid().is_root() {
            true => &[],
            false => &["--user", "--map-current-user"],
        };
        let mut unshare = Command::new("unshare")
            .args(user)
            .args(["-m", "-i", "-n", "-p", "-f", "--mount-proc", "sh", "-c"])
            // The shell is what orphans in there go to, and reaps them while it waits. All that stays
            // is there before it says so.
            .arg("mount -t tmpfs shm /dev/shm; sleep 100000 & echo up; wait; :")
            .stdout(Stdio::piped())
            // What it says when its child is killed.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let words = unshare.stdout.as_mut().unwrap();
        BufReader::new(words).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        let pid = unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let init = children.trim().parse().unwrap();
        Self { unshare, init }
    }

    /// A command that runs in it.
    fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-i", "-n", "-p"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn hull(&self, hull: &Hull, arguments: &[&str]) -> String {
        let output = self.command(&hull.command(arguments)).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hull {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What there is in it, each kind with a line for each thing.
    fn count(&self, hull: &Hull) -> BTreeMap<&'static str, Vec<String>> {
        let here = format!("/proc/{}", self.init);
        let lines = |path: &str| -> Vec<String> {
            let text = fs::read_to_string(format!("{here}/{path}")).unwrap();
            text.lines().skip(1).map(str::to_owned).collect()
        };
        let mut found = BTreeMap::new();
        let inside = format!("{here}/root/proc");
        let pids = entries(&inside);
        let pids = pids.into_iter().filter(|name| name.parse::<i32>().is_ok());
        let (mut processes, mut descriptors) = (Vec::new(), Vec::new());
        for pid in pids {
            let name = fs::read_to_string(format!("{inside}/{pid}/comm")).unwrap_or_default();
            let open = entries(&format!("{inside}/{pid}/fd"));
            descriptors.extend(open.into_iter().map(|fd| format!("{fd} of {pid}")));
            processes.push(format!("{pid} {}", name.trim()));
        }
        found.insert("processes", processes);
        found.insert("descriptors", descriptors);
        found.insert("mounts", lines("mountinfo"));
        found.insert("interfaces", names(lines("net/dev")));
        let kinds = ["unix", "tcp", "udp", "packet", "netlink"];
        let sockets = kinds.map(|kind| lines(&format!("net/{kind}")).len().to_string());
        found.insert("sockets", sockets.to_vec());
        found.insert("shared memory", entries(&format!("{here}/root/dev/shm")));
        let mut segments = Command::new("cat");
        segments.args([
            "/proc/sysvipc/shm",
            "/proc/sysvipc/sem",
            "/proc/sysvipc/msg",
        ]);
        let segments = self.command(&segments).output().unwrap().stdout;
        let segments = String::from_utf8(segments).unwrap();
        found.insert(
            "System V memory",
            segments.lines().map(str::to_owned).collect(),
        );
        let root = hull.root().display().to_string();
        for place in ["containers", "run/containers", "tmp", "volumes"] {
            found.insert(place, entries(&format!("{root}/{place}")));
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Everything in it ends with its first process.
        let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        let _ = self.unshare.wait();
    }
}

fn entries(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The first words of lines: what comes after them are counters.
fn names(lines: Vec<String>) -> Vec<String> {
    let first = |line: String| line.split(':').next().unwrap_or_default().trim().to_owned();
    lines.into_iter().map(first).collect()
}

/// Control groups of these containers, in any hierarchy.
fn groups(of: &[String], directory: &str, found: &mut Vec<String>) {
    for name in entries(directory) {
        let path = format!("{directory}/{name}");
        if fs::symlink_metadata(&path).is_ok_and(|kind| kind.is_dir()) {
            if of.iter().any(|id| name.contains(&id[..12])) {
                found.push(path.clone());
            }
            groups(of, &path, found);
        }
    }
}

#[test]
fn hundreds_of_containers_leave_nothing_behind() {
    let cycles = std::env::var("HULL_TEST_CYCLES").ok();
    let cycles = cycles.map_or(CYCLES, |text| text.parse().unwrap());
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let world = World::new();
    let empty = world.count(&hull)["processes"].len();
    let cycle = || {
        let id = world.hull(&hull, &["create", "busybox", "sleep", "1000"]);
        world.hull(&hull, &["start", &id]);
        world.hull(&hull, &["kill", &id]);
        world.hull(&hull, &["rm", &id]);
        id
    };
    let counted = |what: &str| {
        // What holds the networks ends a little after the last container.
        eventually(what, || world.count(&hull)["processes"].len() == empty);
        world.count(&hull)
    };
    // What stays is there: database, template of writable layers, the file of the networks.
    let first = cycle();
    let before = counted("the first container is gone");
    assert_eq!(before["containers"], Vec::<String>::new());
    let ids = std::thread::scope(|scope| {
        let share = |worker: usize| cycles / WORKERS + usize::from(worker < cycles % WORKERS);
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || (0..share(worker)).map(|_| cycle()).collect()))
            .collect();
        let ids = workers.into_iter().map(|worker| worker.join().unwrap());
        ids.collect::<Vec<Vec<String>>>().concat()
    });
    assert_eq!(ids.len(), cycles);
    let after = counted("all containers are gone");
    for (kind, things) in &before {
        assert_eq!(things, &after[kind], "{kind} after {cycles} containers");
    }
    let mut left = Vec::new();
    groups(&[vec![first], ids].concat(), "/sys/fs/cgroup", &mut left);
    assert_eq!(left, Vec::<String>::new(), "control groups");
}
