//! `kill -9` of any process at any moment of any command: what the next command finds is the
//! truth, and nothing is left over.
//!
//! The moments are random, from a seed that a failure names. `HULL_CRASH_ROUNDS` sets how many
//! rounds there are and `HULL_CRASH_SEED` repeats a sequence.

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Hull, alive, eventually, fetch};
use crate::leftovers;
use crate::serve::Server;

/// Rounds that take about a minute.
const ROUNDS: u32 = 60;
/// The longest wait before a kill, in milliseconds: longer than most commands take.
const LATEST: u64 = 400;

/// A generator of numbers that look random: xorshift.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

/// The state directory's supervisors and machines.
fn victims(hull: &Hull, kind: &str) -> Vec<i32> {
    let all = leftovers::processes(hull);
    let chosen = all.iter().filter(|(_, command)| command.contains(kind));
    chosen.map(|(pid, _)| *pid).collect()
}

struct Matrix<'a> {
    hull: &'a Hull,
    server: Server<'a>,
    dice: Dice,
    file: tempfile::TempDir,
}

impl<'a> Matrix<'a> {
    fn new(hull: &'a Hull, seed: u64) -> Self {
        hull.ok(&["pull", "-q", "busybox"]);
        hull.ok(&[
            "run",
            "--name",
            "keeper",
            "busybox",
            "sh",
            "-c",
            "echo kept > /kept; sync",
        ]);
        hull.ok(&["network", "create", "net"]);
        let write = "echo precious > /v/file";
        hull.ok(&["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", write]);
        let file = tempfile::tempdir().unwrap();
        fs::write(file.path().join("f"), vec![b'x'; 3_000_000]).unwrap();
        Self {
            hull,
            server: Server::new(hull),
            dice: Dice(seed),
            file,
        }
    }

    /// Starts a command, half of the time docker's own through the server.
    fn spawn(&mut self, arguments: &[&str]) -> Child {
        let mut command = match self.dice.below(2) {
            0 => self.hull.command(arguments),
            _ => self.server.command(arguments),
        };
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// One command, one kill, one look at everything.
    fn round(&mut self, round: u32) {
        let running = format!("running-{}", self.dice.below(3));
        let source = self.file.path().join("f").display().to_string();
        let target = self.file.path().join("out").display().to_string();
        let into = format!("{running}:/copied");
        let command: Vec<&str> = match self.dice.below(12) {
            0 => vec!["run", "--rm", "busybox", "sh", "-c", "seq 1 5000; sync"],
            1 | 2 => vec![
                "run",
                "-d",
                "--name",
                &running,
                "-v",
                "data:/v",
                "--network",
                "net",
                "-P",
                "--expose",
                "80",
                "busybox",
                "httpd",
                "-f",
                "-h",
                "/v",
            ],
            3 => vec!["exec", &running, "sh", "-c", "seq 1 5000"],
            4 => vec!["cp", &source, &into],
            5 => vec!["cp", "keeper:/bin", &target],
            6 => vec!["cp", &source, "keeper:/new"],
            7 => vec!["commit", "keeper", "committed"],
            8 => vec!["pull", "-q", "--platform", "linux/arm64", "busybox"],
            9 => vec!["rmi", "-f", "committed"],
            10 => vec!["rm", "-f", &running],
            _ => vec!["start", &running],
        };
        let mut child = self.spawn(&command);
        std::thread::sleep(Duration::from_millis(self.dice.below(LATEST)));
        let pids = match self.dice.below(5) {
            0 => vec![child.id() as i32],
            // Supervisors and the machines' first processes.
            1 => victims(self.hull, "__supervise"),
            2 => leftovers::holders(self.hull),
            3 => {
                self.server.replace();
                Vec::new()
            }
            _ => victims(self.hull, "hull-"),
        };
        if !pids.is_empty() {
            let chosen = pids[self.dice.below(pids.len() as u64) as usize];
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(chosen), Signal::SIGKILL);
        }
        child.wait().unwrap();
        self.check(round, &command);
    }

    fn check(&self, round: u32, command: &[&str]) {
        let hull = self.hull;
        let place = format!("round {round}, {command:?}");
        let format = "{{.State}} {{.Names}} {{.ID}}";
        let listed = hull.run(&["ps", "-a", "--no-trunc", "--format", format]);
        assert_eq!(listed.code, 0, "{place}: {listed:?}");
        for line in listed.stdout.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            // Dead is what is just being removed.
            let known = ["created", "running", "exited", "dead"].contains(&words[0]);
            assert!(known, "{place}: {line}");
            if words[0] == "running" {
                // Whoever is said to run it does, or the next look says otherwise.
                eventually("a running container has a supervisor", || {
                    let state = "{{.SupervisorPid}} {{.State.Status}}";
                    let now = hull.run(&["inspect", "-f", state, words[2]]).stdout;
                    let pid = now.split(' ').next().and_then(|pid| pid.parse().ok());
                    !now.contains("running") || pid.is_some_and(alive)
                });
            }
        }
        assert!(
            listed.stdout.contains(" keeper "),
            "{place}: {}",
            listed.stdout
        );
        let images = hull.run(&["images", "--format", "{{.Repository}}"]);
        assert!(
            images.code == 0 && images.stdout.contains("busybox"),
            "{place}: {images:?}"
        );
        let precious = hull.root().join("volumes/data/_data/file");
        assert_eq!(
            fs::read_to_string(precious).unwrap(),
            "precious\n",
            "{place}"
        );
    }

    /// Everything that should have survived, and nothing else.
    fn end(mut self) {
        // What it is still about to do must not come after the look.
        self.server.replace();
        let hull = self.hull;
        assert_eq!(hull.ok(&["run", "--rm", "busybox", "echo", "well"]), "well");
        let kept = hull.run_binary(&["cp", "keeper:/kept", "-"]);
        let mut archive = tar::Archive::new(kept.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept\n");
        let read = ["run", "--rm", "-v", "data:/v", "busybox", "cat", "/v/file"];
        assert_eq!(hull.ok(&read), "precious");
        if hull.ok(&["images", "-q", "committed"]).lines().count() > 0 {
            assert_eq!(
                hull.ok(&["run", "--rm", "committed", "cat", "/kept"]),
                "kept"
            );
        }
        self.survivors_are_reached();
        for container in hull.ok(&["ps", "-aq"]).lines() {
            hull.ok(&["rm", "-f", container]);
        }
        leftovers::none(hull);
        eventually("the networks' processes end", || {
            leftovers::holders(hull).is_empty()
        });
        hull.ok(&["network", "rm", "net"]);
        hull.ok(&["volume", "rm", "data"]);
        hull.ok(&["system", "prune", "-af", "--volumes"]);
        for place in ["layers", "blobs/sha256"] {
            let left = fs::read_dir(hull.root().join(place)).unwrap().count();
            assert_eq!(left, 0, "{place}");
        }
    }
}

impl Matrix<'_> {
    /// By name from their network, and by their published ports, whatever has happened to what
    /// connects them.
    fn survivors_are_reached(&self) {
        let hull = self.hull;
        let names = ["ps", "-f", "network=net", "--format", "{{.Names}}"];
        let started = ["running-0", "running-1", "running-2"];
        for name in started {
            // Those that a kill has ended come back, if they were ever made.
            hull.run(&["start", name]);
        }
        for name in hull.ok(&names).lines() {
            let page = format!("http://{name}/file");
            let get = [
                "run",
                "--rm",
                "--network",
                "net",
                "busybox",
                "wget",
                "-qO-",
                &page,
            ];
            eventually(&format!("{name} is reached by name"), || {
                hull.run(&get).stdout == "precious\n"
            });
            let place = hull.ok(&["port", name, "80"]);
            let place = place.lines().next().unwrap();
            eventually("a survivor's port answers", || {
                fetch(place, "/file") == "precious\n"
            });
        }
    }
}

#[test]
fn kills_at_random_moments_leave_a_truth_and_nothing_else() {
    let seed = number("HULL_CRASH_SEED", 0x68_75_6c_6c);
    let rounds = number("HULL_CRASH_ROUNDS", ROUNDS.into()) as u32;
    println!("HULL_CRASH_SEED={seed} HULL_CRASH_ROUNDS={rounds}");
    let hull = Hull::fresh();
    let mut matrix = Matrix::new(&hull, seed);
    for round in 0..rounds {
        matrix.round(round);
    }
    matrix.end();
}
