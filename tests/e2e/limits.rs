//! Limits that the host keeps, whatever a guest makes of them: control groups around the
//! processes of its machine, and rates of its network.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Hull, eventually};

/// A container whose start waits until the host keeps what it asks for.
const LIMITED: [&str; 5] = ["--cpu-shares", "1000", "busybox", "sleep", "1000"];

/// The places where control groups are mounted, with what is mounted there.
fn mounts() -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let place = before.split(' ').nth(4)?;
        let known = kind == "cgroup" || kind == "cgroup2";
        known.then(|| (after.to_owned(), PathBuf::from(place)))
    };
    text.lines().filter_map(parse).collect()
}

/// The directories of a machine's group; `below` is where its user may make them.
fn groups(id: &str, below: &str) -> Vec<PathBuf> {
    let place = |(_, mount): (String, PathBuf)| mount.join(below).join("hull").join(&id[..12]);
    let mut found: Vec<PathBuf> = mounts().into_iter().map(place).collect();
    found.retain(|group| group.is_dir());
    found
}

/// A file of the group, of whichever name it has there.
fn file(groups: &[PathBuf], names: &[&str]) -> PathBuf {
    let mut all = groups
        .iter()
        .flat_map(|group| names.iter().map(|name| group.join(name)));
    all.find(|path| path.exists())
        .unwrap_or_else(|| panic!("{names:?} in {groups:?}"))
}

fn text(groups: &[PathBuf], names: &[&str]) -> String {
    let text = fs::read_to_string(file(groups, names)).unwrap();
    text.trim().to_owned()
}

/// Processor time in a period, as both versions say it.
fn quota(groups: &[PathBuf]) -> String {
    let first = text(groups, &["cpu.max", "cpu.cfs_quota_us"]);
    first.split(' ').next().unwrap().to_owned()
}

fn number(groups: &[PathBuf], names: &[&str]) -> u64 {
    text(groups, names).parse().unwrap()
}

/// A line `name number` of a file.
fn counter(groups: &[PathBuf], names: &[&str], wanted: &str) -> u64 {
    let text = text(groups, names);
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(name, _)| *name == wanted)
        .map_or(0, |(_, number)| number.parse().unwrap())
}

/// A process and all that come from it.
fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .map(|pid| pid.parse::<i32>().unwrap()),
            );
        }
    }
    all
}

/// Whether this host lets the tests' user make groups, as `doctor` says.
fn host_has_groups() -> bool {
    let doctor = Hull::shared().run(&["doctor"]).stdout;
    let line = doctor
        .lines()
        .find(|line| line.contains("limits on the host"));
    line.unwrap_or_else(|| panic!("{doctor}"))
        .starts_with("works")
}

/// Every process of the machine is in the group.
fn all_inside(hull: &Hull, id: &str, groups: &[PathBuf]) -> bool {
    let machine = hull.field(id, "{{.State.Pid}}").parse().unwrap();
    groups.iter().all(|group| {
        let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        let is_inside = |pid: i32| inside.lines().any(|line| line == pid.to_string());
        family(machine).into_iter().all(is_inside)
    })
}

#[test]
fn a_machine_keeps_to_what_it_may_use_of_the_host() {
    let hull = Hull::shared();
    let limits = ["--memory", "128m", "--cpus", "0.5", "--cpu-shares", "512"];
    let rest = [
        "--pids-limit",
        "20",
        "-v",
        "/usr/share:/share:ro",
        "busybox",
        "sleep",
        "1000",
    ];
    let running = hull.background(&[&limits[..], &rest].concat());
    let id = running.id.as_str();
    if !host_has_groups() {
        assert!(hull.field(id, "{{.Warnings}}").contains("not kept"));
        return;
    }
    let groups = groups(id, "");
    assert!(!groups.is_empty());
    eventually("all processes are in the group", || {
        all_inside(&hull, id, &groups)
    });
    let memory = number(&groups, &["memory.max", "memory.limit_in_bytes"]);
    assert!((128 << 20..512 << 20).contains(&memory), "{memory}");
    assert_eq!(quota(&groups), "50000");
    let shares = number(&groups, &["cpu.weight", "cpu.shares"]);
    assert!(shares == 512 || shares == 20, "{shares}");
    let processes = number(&groups, &["pids.max"]);
    assert!((20..1000).contains(&processes), "{processes}");
    let said = "{{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.Warnings}}";
    assert_eq!(hull.field(id, said), "500000000 512 []");
    // The guest has whole processors.
    assert_eq!(hull.ok(&["exec", id, "nproc"]), "1");

    let changed = hull.run(&["update", "--cpu-quota", "20000", "--pids-limit", "30", id]);
    assert_eq!(
        (changed.code, changed.stderr.as_str()),
        (0, ""),
        "{changed:?}"
    );
    assert_eq!(quota(&groups), "20000");
    assert_eq!(number(&groups, &["pids.max"]), processes + 10);
    let said = "{{.HostConfig.NanoCpus}} {{.HostConfig.CpuQuota}} {{.HostConfig.PidsLimit}}";
    assert_eq!(hull.field(id, said), "0 20000 30");
    // Its processes on the host stay in the group, whatever it starts.
    hull.ok(&["exec", "-d", id, "sleep", "1000"]);
    eventually("new processes are in the group", || {
        all_inside(&hull, id, &groups)
    });
    drop(running);
    eventually("no group is left", || {
        !groups.iter().any(|group| group.exists())
    });
}

#[test]
fn a_whole_machine_is_bounded_too() {
    if !host_has_groups() {
        return;
    }
    let hull = Hull::shared();
    let running = hull.background(&[&["--engine", "tcg"], &LIMITED[..]].concat());
    let groups = groups(&running.id, "");
    assert!(!groups.is_empty());
    eventually("all processes are in the group", || {
        all_inside(&hull, &running.id, &groups)
    });
    // Its threads, not the guest's processes, are the host's.
    assert!(number(&groups, &["pids.max"]) < 200);
    drop(running);
    eventually("no group is left", || {
        !groups.iter().any(|group| group.exists())
    });
}

#[test]
fn a_busy_guest_gets_the_time_that_it_may_use() {
    if !host_has_groups() {
        return;
    }
    let hull = Hull::shared();
    let busy = [
        "--cpus",
        "0.1",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ];
    let running = hull.background(&busy);
    let groups = groups(&running.id, "");
    let throttled = || counter(&groups, &["cpu.stat"], "nr_throttled");
    let before = throttled();
    // A period that ends with work left and no time: it comes as often as anybody looks.
    eventually("it has to wait", || throttled() >= before + 10);
}

#[test]
fn a_machine_that_uses_too_much_of_the_hosts_memory_is_killed_and_the_state_says_so() {
    if !host_has_groups() {
        return;
    }
    let hull = Hull::shared();
    let running = hull.background(&LIMITED);
    let id = running.id.as_str();
    let groups = groups(id, "");
    // As if the devices' process had lost count: the limit is what is used, and a little.
    let used = number(&groups, &["memory.current", "memory.usage_in_bytes"]);
    let limit = file(&groups, &["memory.max", "memory.limit_in_bytes"]);
    fs::write(limit, (used + (8 << 20)).to_string()).unwrap();
    let fill = "dd if=/dev/zero of=/dev/shm/f bs=1M count=60";
    hull.run(&["exec", id, "sh", "-c", fill]);
    let state = "{{.State.Status}} {{.State.OOMKilled}}";
    eventually("it ends", || hull.field(id, state) == "exited true");
    let error = hull.field(id, "{{.State.Error}}");
    assert!(error.contains("host's memory"), "{error}");
    eventually("no group is left", || {
        !groups.iter().any(|group| group.exists())
    });
}

#[test]
fn a_killed_supervisor_leaves_no_group() {
    if !host_has_groups() {
        return;
    }
    let hull = Hull::shared();
    let running = hull.background(&LIMITED);
    let groups = groups(&running.id, "");
    assert!(!groups.is_empty());
    let supervisor = hull
        .field(&running.id, "{{.SupervisorPid}}")
        .parse()
        .unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    eventually("the next command removes it", || {
        hull.ok(&["ps", "-a"]);
        !groups.iter().any(|group| group.exists())
    });
}

#[test]
fn without_groups_an_ordinary_user_is_told_what_is_not_kept() {
    let hull = Hull::unprivileged();
    if nix::unistd::geteuid().is_root() {
        hull.ok(&["pull", "-q", "busybox"]);
        let run = ["run", "--rm", "--network", "none"];
        let done = hull.run(&[&run[..], &["--cpus", "0.5", "busybox", "echo", "runs"]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (0, "runs\n"), "{done:?}");
        assert!(
            done.stderr
                .contains("are not kept: the host's control groups"),
            "{done:?}"
        );
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        // Whole processors and memory are the guest's own.
        let done = hull.run(&[&run[..], &["--cpus", "1", "-m", "64m", "busybox", "true"]].concat());
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
}

/// A part of every hierarchy that belongs to a user, as a service manager delegates it.
struct Delegated {
    name: String,
    places: Vec<PathBuf>,
}

impl Delegated {
    fn to(user: u32) -> Self {
        let name = format!("hull-test-{}", std::process::id());
        let mut places = Vec::new();
        for (kind, mount) in mounts() {
            let place = mount.join(&name);
            let useful = ["memory", "cpu,", "cpu\n", "pids", "cgroup2"];
            let line = format!("{kind}\n");
            if !useful.iter().any(|word| line.contains(word)) || fs::create_dir(&place).is_err() {
                continue;
            }
            // In version 2 a group has processes or groups, so the user's shell is in one below.
            let inner = place.join("shell");
            fs::create_dir(&inner).unwrap();
            for directory in [&place, &inner] {
                chown(directory, Some(user), Some(user)).unwrap();
                for entry in fs::read_dir(directory).unwrap().flatten() {
                    let file = entry.file_name().to_string_lossy().into_owned();
                    if ["cgroup.procs", "cgroup.subtree_control"].contains(&file.as_str()) {
                        chown(entry.path(), Some(user), Some(user)).unwrap();
                    }
                }
            }
            places.push(place);
        }
        Self { name, places }
    }

    /// Runs a command there.
    fn run(&self, command: &Command, user: u32) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", "read -r line; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        let mut child = shell
            .uid(user)
            .gid(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for place in &self.places {
            let processes = place.join("shell/cgroup.procs");
            fs::write(processes, child.id().to_string()).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for place in &self.places {
            for directory in [place.join("hull"), place.join("shell"), place.clone()] {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

#[test]
fn an_ordinary_user_with_a_delegated_part_has_limits() {
    if !nix::unistd::geteuid().is_root() || !host_has_groups() {
        return;
    }
    let hull = Hull::unprivileged();
    let user = std::os::unix::fs::MetadataExt::uid(&fs::metadata(hull.root()).unwrap());
    let part = Delegated::to(user);
    hull.ok(&["pull", "-q", "busybox"]);
    let network = ["run", "-d", "--network", "none"];
    let run = [&network[..], &["--cpus", "0.5", "busybox", "sleep", "1000"]].concat();
    let id = part.run(&hull.command(&run), user);
    let groups = groups(&id, &part.name);
    assert!(!groups.is_empty(), "{:?}", part.places);
    assert_eq!(hull.field(&id, "{{.Warnings}}"), "[]");
    assert_eq!(quota(&groups), "50000");
    eventually("all processes are in the group", || {
        all_inside(&hull, &id, &groups)
    });
    hull.ok(&["rm", "-f", &id]);
    eventually("no group is left", || {
        !groups.iter().any(|group| group.exists())
    });
}

/// A guest's kernel has version 2, whatever the host has.
#[test]
fn the_second_version_of_groups_is_used_where_the_host_has_it() {
    let hull = Hull::shared();
    let own = hull.command::<&str>(&[]).get_program().to_owned();
    let place = Path::new(&own).parent().unwrap().display().to_string();
    let script = "set -e\n\
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null || mount -t cgroup2 none /sys/fs/cgroup\n\
        mkdir -p /sys/fs/cgroup/shell\n\
        for pid in $(cat /sys/fs/cgroup/cgroup.procs); do\n\
        echo $pid > /sys/fs/cgroup/shell/cgroup.procs || true; done\n\
        HULL_ROOT=/tmp/state /hull/hull doctor | grep -A 1 'limits on the host'\n\
        test ! -e /sys/fs/cgroup/hull && echo nothing left";
    let volume = format!("{place}:/hull:ro");
    let run = [
        "run",
        "--rm",
        "--privileged",
        "-m",
        "1g",
        "-v",
        &volume,
        "debian",
        "bash",
        "-c",
    ];
    let done = hull.run(&[&run[..], &[script]].concat());
    assert!(done.stdout.starts_with("works"), "{done:#?}");
    let found = "cpu, memory, pids";
    assert!(
        done.stdout.contains(found) && done.stdout.contains("(version 2)"),
        "{done:#?}"
    );
    assert!(done.stdout.ends_with("nothing left\n"), "{done:#?}");
}

const MEGABYTE: usize = 1 << 20;

#[test]
fn what_a_container_sends_and_receives_is_bounded() {
    let hull = Hull::shared();
    let rates = ["--network-send-bps", "1m", "--network-receive-bps", "1m"];
    let serve = "while :; do nc -l -p 80 -e sh -c 'head -c 3145728 /dev/zero'; done & \
        while :; do nc -l -p 81 -e sh -c 'head -c 3145728 | md5sum'; done";
    let rest = [
        "-p",
        "127.0.0.1::80",
        "-p",
        "127.0.0.1::81",
        "busybox",
        "sh",
        "-c",
        serve,
    ];
    let running = hull.background(&[&rates[..], &rest].concat());
    let place = |port: &str| hull.ok(&["port", &running.id, port]);
    // A tenth of a second may be saved up.
    let least = Duration::from_millis(2800);

    let connect = |port: &str| {
        let place = place(port);
        let mut stream = None;
        eventually("the container listens", || {
            let listens = hull.run(&["exec", &running.id, "netstat", "-ltn"]);
            let end = format!(":{port} ");
            if listens.stdout.contains(&end) {
                stream = TcpStream::connect(&place).ok();
            }
            stream.is_some()
        });
        stream.unwrap()
    };
    let mut stream = connect("80");
    let begin = Instant::now();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 3 * MEGABYTE);
    assert!(
        begin.elapsed() >= least - Duration::from_millis(300),
        "{:?}",
        begin.elapsed()
    );

    let mut stream = connect("81");
    let begin = Instant::now();
    stream.write_all(&vec![0; 3 * MEGABYTE]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut sum = String::new();
    stream.read_to_string(&mut sum).unwrap();
    assert!(sum.starts_with("d1dd210d6b1312cb342b56d02bd5e651"), "{sum}");
    assert!(
        begin.elapsed() >= least - Duration::from_millis(300),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn only_who_asks_for_limits_is_in_a_group_also_later() {
    if !host_has_groups() {
        return;
    }
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    assert_eq!(groups(&running.id, ""), Vec::<PathBuf>::new());
    hull.ok(&["update", "--cpu-quota", "20000", &running.id]);
    let groups = groups(&running.id, "");
    assert!(quota(&groups).starts_with("20000"), "{groups:?}");
    assert!(all_inside(&hull, &running.id, &groups));
}
