//! A real terminal: tmux shows what a user would see.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::{Hull, eventually};

/// A tmux server of the test's own with one window that runs hull.
struct Terminal {
    socket: String,
    _directory: tempfile::TempDir,
}

impl Terminal {
    fn open(hull: &Hull, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("tmux").display().to_string();
        let command = hull.command(arguments);
        let mut line = String::new();
        for (name, value) in command.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            line.push_str(&format!("{}='{value}' ", name.to_string_lossy()));
        }
        line.push_str(&format!("'{}'", command.get_program().to_string_lossy()));
        for argument in command.get_args() {
            line.push_str(&format!(" '{}'", argument.to_string_lossy()));
        }
        line.push_str("; echo \"code=$?.\"; exec cat");
        let terminal = Self {
            socket,
            _directory: directory,
        };
        terminal.tmux(&["new-session", "-d", "-x", "100", "-y", "30", &line]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket, "-f", "/dev/null"])
            .args(arguments)
            .env_remove("TMUX")
            .output()
            .expect("tmux is installed by make test");
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", "0"], keys].concat());
    }

    fn type_line(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "0", "-l", text]);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", "0"])
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let mut last = String::new();
        let begin = std::time::Instant::now();
        while begin.elapsed() < crate::harness::PATIENCE {
            last = self.screen();
            if last.contains(text) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{text:?} did not appear on\n{last}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-S", &self.socket, "kill-server"])
            .output();
    }
}

#[test]
fn a_shell_in_a_terminal_resizes_interrupts_and_controls_jobs() {
    let hull = Hull::shared();
    let terminal = Terminal::open(&hull, &["run", "--rm", "-it", "debian", "bash"]);
    terminal.shows("#");
    terminal.type_line("stty size; tty; echo term=$TERM");
    terminal.shows("30 100");
    terminal.shows("/dev/pts/0");
    terminal.shows("term=xterm");
    terminal.tmux(&["resize-window", "-t", "0", "-x", "90", "-y", "25"]);
    terminal.type_line("trap 'echo size=$(stty size | tr \" \" x)' WINCH; kill -WINCH $$");
    terminal.shows("size=25x90");
    // The quotes keep the word out of what is typed: it appears when the program runs.
    terminal.type_line("sh -c 'echo run\"\"ning-1; exec sleep 1000'");
    terminal.shows("running-1");
    terminal.keys(&["C-c"]);
    terminal.type_line("echo interrupted=$?");
    terminal.shows("interrupted=130");
    terminal.type_line("sh -c 'echo run\"\"ning-2; exec sleep 1000'");
    terminal.shows("running-2");
    terminal.keys(&["C-z"]);
    terminal.shows("Stopped");
    terminal.type_line("jobs; kill -9 %1; wait; echo done=yes");
    terminal.shows("done=yes");
    // A prompt that shows the status says when the shell reads again.
    terminal.type_line("PS1='now=$?> '");
    terminal.shows("now=0>");
    terminal.type_line("(exit 3)");
    terminal.shows("now=3>");
    terminal.keys(&["C-d"]);
    terminal.shows("code=3.");
}

#[test]
fn detach_keys_leave_it_running_and_attach_comes_back() {
    let hull = Hull::shared();
    let name = format!("interactive-detach-{}", std::process::id());
    let terminal = Terminal::open(&hull, &["run", "-it", "--name", &name, "busybox", "sh"]);
    terminal.shows("#");
    terminal.type_line("A=remembered");
    terminal.keys(&["C-p", "C-q"]);
    terminal.shows("code=0.");
    assert_eq!(hull.field(&name, "{{.State.Running}}"), "true");
    let again = Terminal::open(&hull, &["attach", &name]);
    eventually("the shell answers", || {
        again.type_line("echo $A");
        again.screen().contains("\nremembered")
    });
    again.type_line("exit 4");
    again.shows("code=4.");
    hull.ok(&["rm", &name]);
}

#[test]
fn exec_gives_a_terminal_too() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let terminal = Terminal::open(&hull, &["exec", "-it", &running.id, "sh"]);
    terminal.shows("#");
    terminal.type_line("tty; stty size");
    terminal.shows("30 100");
    terminal.keys(&["C-d"]);
    terminal.shows("code=0.");
}

#[test]
fn a_terminal_is_refused_without_one() {
    let hull = Hull::shared();
    let error = hull.fails(&["run", "--rm", "-it", "busybox", "true"], 1);
    assert!(error.contains("not a TTY"), "{error}");
    // -t alone gives the program a terminal and needs none.
    let out = hull.ok(&["run", "--rm", "-t", "busybox", "tty"]);
    assert_eq!(out.trim(), "/dev/pts/0");
}

#[test]
fn interrupting_the_command_line_reaches_the_container() {
    let hull = Hull::shared();
    let script = "trap 'echo caught; exit 12' INT; echo up; while :; do sleep 0.05; done";
    let mut child = hull
        .command(&["run", "--rm", "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    assert_eq!(child.wait().unwrap().code(), Some(12));
}
