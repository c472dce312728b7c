//! Processes of machines that were taken over, and what they get: nothing.
//!
//! `HULL_TEST_ENGINES` names the engines whose processes misbehave, by default `uml tcg`.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, ExitCode};

use vmm::misbehave::{ATTEMPTS, SUCCESS, VARIABLE};
use vmm::{DirShare, EngineKind, GuestArch, Machine, MachineConfig, StopReason};

use crate::support::{end, kernel, unique};

pub const TESTS: &[(&str, fn())] = &[("misbehave::nobody_gets_out", nobody_gets_out)];

/// The version of Landlock that keeps signals inside: Linux 6.12.
const SIGNALS_STAY_INSIDE: i32 = 6;

/// How a filter ends a process.
const KILLED: &str = "killed by the filter";

/// The argument that makes the test program start a machine whose process misbehaves.
pub const MISBEHAVE: &str = "__misbehave";

/// The other side: start the machine and print how it ended.
pub fn misbehave() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let engine: EngineKind = arguments[2].parse().unwrap();
    let kernel = kernel(match engine {
        EngineKind::Uml => "linux-um",
        _ => "vmlinux-x86_64",
    });
    let mut config = MachineConfig {
        name: unique("misbehave"),
        engine,
        arch: GuestArch::X86_64,
        memory_mib: 128,
        cpus: 1,
        // It never gets as far as reading it.
        initramfs: kernel.clone(),
        kernel,
        disks: Vec::new(),
        disk_limits: vmm::IoLimits::default(),
        network_limits: vmm::RateLimits::default(),
        host_limits: vmm::HostLimits::default(),
        trace_boot: false,
        verbose: false,
        no_jail: false,
        shares: Vec::new(),
        interfaces: Vec::new(),
        console: None,
        qemu: None,
    };
    let share = tempfile::tempdir().unwrap();
    if arguments[3] == "shares" {
        config.shares = vec![DirShare {
            tag: "data".to_owned(),
            source: share.path().to_owned(),
            read_only: false,
        }];
    }
    let mut machine = Machine::start(&config).unwrap();
    match end(&mut machine) {
        StopReason::Killed { signal: 31 } => println!("{KILLED}"),
        reason => println!("{reason}"),
    }
    ExitCode::SUCCESS
}

/// What a role may do, and whether that is so before its filter only. The process of shared
/// directories is the host's root, if root started it, for the sake of the files' owners. User-mode
/// Linux executes guest programs, QEMU translates them.
fn is_allowed(role: &str, layer: &str, attempt: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    match (role, attempt) {
        ("shares", "become-root") => root,
        ("shares", "kill") => root && layer == "before" && vmm::landlock() < SIGNALS_STAY_INSIDE,
        ("uml" | "qemu", "executable-memory") => true,
        (_, "nothing") => true,
        _ => false,
    }
}

fn nobody_gets_out() {
    let engines = std::env::var("HULL_TEST_ENGINES").unwrap_or("uml tcg".to_owned());
    let mut report = Report::default();
    for engine in engines.split_whitespace() {
        match engine {
            "uml" => {
                for role in ["waiter", "devices", "shares", "uml"] {
                    report.role(engine, role);
                }
            }
            // The others are the same processes.
            "tcg" => report.role(engine, "qemu"),
            _ => {
                for role in ["devices", "cpu"] {
                    report.role(engine, role);
                }
            }
        }
    }
    if std::env::var_os("HULL_TEST_TABLE").is_some() {
        eprintln!("{}", report.lines.join("\n"));
    }
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
}

#[derive(Default)]
struct Report {
    lines: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    fn role(&mut self, engine: &str, role: &str) {
        // Nothing of the first process is closed before its filter: it is the others' parent.
        let layers: &[&str] = if role == "waiter" {
            &["behind"]
        } else {
            &["before", "behind"]
        };
        for layer in layers {
            let names: Vec<&str> = ATTEMPTS
                .iter()
                .filter(|attempt| *layer == "behind" || !attempt.filter_only)
                .map(|attempt| attempt.name)
                .filter(|name| !is_allowed(role, layer, name))
                .collect();
            // The filters of these end a process at its first forbidden call. Words of the
            // others are cut when they are long.
            let deadly = *layer == "behind" && matches!(role, "waiter" | "devices" | "cpu");
            for some in names.chunks(if deadly { 1 } else { 8 }) {
                self.all((engine, role, layer), some);
            }
            let said = tried((engine, role, layer), "nothing");
            let success = format!("status {SUCCESS}");
            // Its end is told by the process beside it.
            let success = if role == "shares" { "died" } else { &success };
            if !said.contains(success) {
                let line =
                    format!("{engine}, {role}, {layer}: what is allowed does not work: {said}");
                self.failures.push(line);
            }
        }
    }

    /// Let a process try these, one after the other.
    fn all(&mut self, place: (&str, &str, &str), names: &[&str]) {
        let said = tried(place, &names.join(","));
        let (engine, role, layer) = place;
        for name in names {
            let part = said.split("; ").find_map(|part| {
                let (before, errno) = part.rsplit_once(": ")?;
                before.ends_with(name).then_some(errno)
            });
            let killed = (said == KILLED && layer == "behind").then_some(KILLED);
            let line = format!("{engine}, {role}, {layer} the filter, {name}: ");
            match part.or(killed) {
                Some(result) => self.lines.push(line + result),
                None => self.failures.push(line + &said),
            }
        }
    }
}

/// Let a process try things, and see to it that the host has not noticed.
fn tried((engine, role, layer): (&str, &str, &str), attempts: &str) -> String {
    let mut victim = Command::new("sleep").arg("1000").spawn().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("hull-misbehave-{port}");
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let local = UnixListener::bind_addr(&name).unwrap();
    local.set_nonblocking(true).unwrap();
    let order = format!("{role} {layer} {attempts} {} {port}", victim.id());
    let output = Command::new(std::env::current_exe().unwrap())
        .args([MISBEHAVE, engine, role])
        .env(VARIABLE, order)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(victim.try_wait().unwrap(), None, "{role} killed a process");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let nobody = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    assert!(listener.accept().is_err_and(nobody), "{role} connected");
    assert!(local.accept().is_err_and(nobody), "{role} connected");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
