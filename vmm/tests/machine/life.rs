//! How machines start and end.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::poll::{PollFd, PollFlags, poll};

use vmm::{DirShare, EngineKind, GuestArch, Machine, MachineConfig, StartError, StopReason};

use crate::support::{ask, boot, config, end, initramfs, kernel, open, unique};

pub const TESTS: &[(&str, fn())] = &[
    ("life::boots_and_powers_off", boots_and_powers_off),
    (
        "life::panic_is_told_with_its_words",
        panic_is_told_with_its_words,
    ),
    ("life::kill_leaves_nothing", kill_leaves_nothing),
    (
        "life::death_of_the_vmm_ends_the_guest",
        death_of_the_vmm_ends_the_guest,
    ),
    ("life::missing_files_are_named", missing_files_are_named),
    (
        "life::broken_kernel_fails_with_a_reason",
        broken_kernel_fails_with_a_reason,
    ),
    (
        "life::reboot_does_not_start_again",
        reboot_does_not_start_again,
    ),
    (
        "life::ordinary_users_have_machines_too",
        ordinary_users_have_machines_too,
    ),
    (
        "life::death_of_the_creator_ends_everything",
        death_of_the_creator_ends_everything,
    ),
    ("life::used_up_memory_is_told", used_up_memory_is_told),
    ("life::probing_boots_a_guest", probing_boots_a_guest),
    ("life::several_cpus", several_cpus),
];

/// The argument that makes the test program boot one machine and do nothing.
pub const BOOT_AND_WAIT: &str = "__boot_and_wait";

/// The other side of the creator's death.
pub fn boot_and_wait() -> ExitCode {
    let mut config = config("orphan");
    config.name = std::env::args().nth(2).unwrap();
    let _machine = boot(&config);
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

fn death_of_the_creator_ends_everything() {
    let mut creator = Command::new(std::env::current_exe().unwrap())
        .arg(BOOT_AND_WAIT)
        .arg(unique("orphan"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(creator.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let tree = processes_named("orphan");
    assert!(tree.len() >= 3, "{tree:?}");
    let ends: Vec<OwnedFd> = tree.into_iter().map(pidfd).collect();
    creator.kill().unwrap();
    creator.wait().unwrap();
    for end in ends {
        let mut fds = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 10_000u16).unwrap(), 1, "a process lives on");
    }
}

fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: takes no pointers; the result is a new descriptor of ours.
    unsafe {
        let fd = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd as i32)
    }
}

fn used_up_memory_is_told() {
    let mut config = config("used-up");
    config.memory_mib = 48;
    let mut machine = boot(&config);
    drop(open(&machine, "eat"));
    assert_eq!(end(&mut machine), StopReason::OutOfMemory);
}

/// The argument that makes the test program boot one machine as whoever it runs as.
pub const AS_USER: &str = "__as_user";

fn ordinary_users_have_machines_too() {
    as_ordinary_user(EngineKind::Uml, "linux-um");
}

/// Boot a machine with a shared directory as somebody who is not root.
pub fn as_ordinary_user(engine: EngineKind, kernel_name: &str) {
    // Everything where anybody can read it, wherever the checkout lies.
    let directory = tempfile::tempdir().unwrap();
    let everyone = Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), everyone.clone()).unwrap();
    let place = |source: &Path, name: &str| {
        let target = directory.path().join(name);
        fs::copy(source, &target).unwrap();
        fs::set_permissions(&target, everyone.clone()).unwrap();
        target
    };
    let program = place(&std::env::current_exe().unwrap(), "program");
    let kernel = place(&kernel(kernel_name), "kernel");
    let initramfs = place(initramfs(), "initramfs");
    let share = directory.path().join("share");
    fs::create_dir(&share).unwrap();
    let mut command = Command::new(program);
    command
        .arg(AS_USER)
        .arg(engine.as_str())
        .args([kernel, initramfs, share.clone()]);
    let mut user = nix::unistd::getuid().as_raw();
    if user == 0 {
        user = 4711;
        command.uid(user).gid(user);
        std::os::unix::fs::chown(&share, Some(user), Some(user)).unwrap();
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The guest's root is the user outside.
    assert_eq!(fs::metadata(share.join("made")).unwrap().uid(), user);
}

/// The other side of that test.
pub fn as_user() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let config = MachineConfig {
        name: "user".to_owned(),
        engine: arguments[2].parse().unwrap(),
        arch: GuestArch::X86_64,
        memory_mib: 128,
        cpus: 1,
        kernel: PathBuf::from(&arguments[3]),
        initramfs: PathBuf::from(&arguments[4]),
        disks: Vec::new(),
        interfaces: Vec::new(),
        disk_limits: vmm::IoLimits::default(),
        network_limits: vmm::RateLimits::default(),
        host_limits: vmm::HostLimits::default(),
        trace_boot: false,
        verbose: false,
        no_jail: false,
        shares: vec![DirShare {
            tag: "data".to_owned(),
            source: PathBuf::from(&arguments[5]),
            read_only: false,
        }],
        console: None,
        qemu: None,
    };
    let mut machine = boot(&config);
    assert_eq!(ask(&machine, "mount data /data virtiofs rw"), "ok");
    assert_eq!(ask(&machine, "mkdir /data/made"), "ok");
    drop(open(&machine, "poweroff"));
    assert_eq!(end(&mut machine), StopReason::PowerOff);
    ExitCode::SUCCESS
}

fn boots_and_powers_off() {
    let mut machine = boot(&config("power-off"));
    assert!(ask(&machine, "read /proc/version").contains("Linux version"));
    drop(open(&machine, "poweroff"));
    assert_eq!(end(&mut machine), StopReason::PowerOff);
    // Asked again, the answer stays.
    assert_eq!(end(&mut machine), StopReason::PowerOff);
}

fn panic_is_told_with_its_words() {
    let directory = tempfile::tempdir().unwrap();
    let console = directory.path().join("console");
    let mut config = config("panic");
    config.console = Some(console.clone());
    let mut machine = boot(&config);
    drop(open(&machine, "exit"));
    let reason = end(&mut machine);
    assert!(
        matches!(&reason, StopReason::Panic(words) if words.contains("Attempted to kill init")),
        "{reason:?}"
    );
    assert!(
        fs::read_to_string(console)
            .unwrap()
            .contains("Attempted to kill init")
    );
}

fn kill_leaves_nothing() {
    let mut machine = boot(&config("kill-leaves-nothing"));
    let tree = processes_named("kill-leaves-nothing");
    assert!(tree.len() >= 2, "{tree:?}");
    machine.kill();
    assert_eq!(processes_named("kill-leaves-nothing"), Vec::<i32>::new());
    assert_eq!(end(&mut machine), StopReason::Killed { signal: 9 });
}

fn death_of_the_vmm_ends_the_guest() {
    let mut machine = boot(&config("vmm-dies"));
    let pid = nix::unistd::Pid::from_raw(machine.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(end(&mut machine), StopReason::Killed { signal: 9 });
    assert_eq!(processes_named("vmm-dies"), Vec::<i32>::new());
}

fn missing_files_are_named() {
    let mut config = config("missing");
    config.kernel = "/nonexistent/kernel".into();
    let error = Machine::start(&config).unwrap_err();
    assert!(matches!(
        &error,
        StartError::Open {
            what: "guest kernel",
            ..
        }
    ));
    assert!(error.to_string().contains("/nonexistent/kernel"));
}

fn broken_kernel_fails_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config("broken-kernel");
    config.kernel = directory.path().join("kernel");
    fs::write(&config.kernel, "not a program").unwrap();
    let mut machine = Machine::start(&config).unwrap();
    let reason = end(&mut machine);
    assert!(
        matches!(&reason, StopReason::Failed(text) if text.contains("execute the guest kernel")),
        "{reason:?}"
    );
}

fn reboot_does_not_start_again() {
    let mut machine = boot(&config("reboot"));
    drop(open(&machine, "reboot"));
    let reason = end(&mut machine);
    assert!(!matches!(reason, StopReason::Killed { .. }), "{reason:?}");
    assert_eq!(processes_named("reboot"), Vec::<i32>::new());
}

/// Every process whose command line contains a machine's name as a word of its own.
pub fn processes_named(name: &str) -> Vec<i32> {
    let name = unique(name);
    let own = std::process::id() as i32;
    let all: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own && is_alive(*pid))
        .collect();
    let command = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_vmm = |pid: i32| command(pid).starts_with(b"hull-vmm\0");
    // The kernel cuts the name of the process that serves the devices.
    let short = format!("vmm-{name}").chars().take(15).collect::<String>();
    let named = |pid: i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let guest = format!("hull-guest:{name}");
        let words = command(pid);
        let mut words = words.split(|byte| *byte == 0);
        comm.trim() == short || words.any(|w| w == name.as_bytes() || w == guest.as_bytes())
    };
    let mut found: Vec<i32> = all.iter().copied().filter(|pid| named(*pid)).collect();
    // The first process has no name, nor has the one of shared directories: both are next to
    // one that has.
    let firsts: Vec<i32> = found
        .iter()
        .filter_map(|pid| parent(*pid))
        .filter(|pid| is_vmm(*pid) && parent(*pid).is_some_and(|above| !is_vmm(above)))
        .collect();
    let beside = |pid: &i32| {
        let below = parent(*pid).is_some_and(|above| firsts.contains(&above));
        firsts.contains(pid) || below && is_vmm(*pid)
    };
    found.extend(all.iter().copied().filter(beside));
    found.sort_unstable();
    found.dedup();
    found
}

/// The fields of a process after its name.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?[1].parse().ok()
}

fn probing_boots_a_guest() {
    let kernel = kernel("linux-um");
    let found = vmm::probe(
        EngineKind::Uml,
        GuestArch::X86_64,
        &kernel,
        initramfs(),
        None,
    );
    assert!(found.usable && found.boot.is_some(), "{found:?}");
    assert!(found.isolation.contains("no hardware boundary"));
    // A program that is no kernel.
    let program = Path::new("/bin/true");
    let found = vmm::probe(
        EngineKind::Uml,
        GuestArch::X86_64,
        program,
        initramfs(),
        None,
    );
    assert!(!found.usable, "{found:?}");
}

fn several_cpus() {
    let mut config = config("cpus");
    config.cpus = 2;
    let mut machine = boot(&config);
    assert_eq!(ask(&machine, "read /sys/devices/system/cpu/online"), "0-1");
    assert!(ask(&machine, "forks 20").parse::<u32>().is_ok());
    drop(open(&machine, "poweroff"));
    assert_eq!(end(&mut machine), StopReason::PowerOff);
}
