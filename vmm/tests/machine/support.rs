//! A guest to test with: its kernel, its initramfs, and talking to it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use vmm::{EngineKind, Event, GuestArch, Machine, MachineConfig, StopReason};

/// The vsock port that the test guest listens on.
const PORT: u32 = 1024;

/// Where the kernels are.
pub fn kernel(name: &str) -> PathBuf {
    let directory = std::env::var_os("HULL_TEST_KERNELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernels"),
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(
        path.exists(),
        "no guest kernel {}: build it, or set HULL_TEST_KERNELS",
        path.display()
    );
    path
}

/// An initramfs with the test guest's only program.
pub fn initramfs() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let compiler = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        build("test-initramfs.cpio", Command::new(compiler))
    })
}

/// Build the test guest with a compiler and pack it.
pub fn build(name: &str, mut compiler: Command) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = tempfile::tempdir_in(directory).unwrap();
    let init = own.path().join("init");
    let status = compiler
        .args([
            "--edition=2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "panic=abort", "-o"])
        .args([&init, &source])
        .status()
        .unwrap();
    assert!(status.success(), "cannot build the test guest");
    let mut cpio = Vec::new();
    entry(&mut cpio, 1, "init", 0o100_755, &fs::read(&init).unwrap());
    entry(&mut cpio, 0, "TRAILER!!!", 0, &[]);
    let path = directory.join(name);
    let aside = own.path().join("cpio");
    fs::write(&aside, cpio).unwrap();
    fs::rename(aside, &path).unwrap();
    path
}

/// One file of a `newc` cpio archive.
fn entry(cpio: &mut Vec<u8>, inode: u32, name: &str, mode: u32, data: &[u8]) {
    let fields = [
        inode,
        mode,
        0,
        0,
        1,
        0,
        data.len() as u32,
        0,
        0,
        0,
        0,
        name.len() as u32 + 1,
        0,
    ];
    cpio.extend(b"070701");
    for field in fields {
        cpio.extend(format!("{field:08x}").bytes());
    }
    cpio.extend(name.bytes());
    cpio.push(0);
    cpio.resize(cpio.len().next_multiple_of(4), 0);
    cpio.extend(data);
    cpio.resize(cpio.len().next_multiple_of(4), 0);
}

/// A machine's name that no other run of the tests on this host uses.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// A machine without disks.
pub fn config(name: &str) -> MachineConfig {
    MachineConfig {
        name: unique(name),
        engine: EngineKind::Uml,
        arch: GuestArch::X86_64,
        memory_mib: 128,
        cpus: 1,
        kernel: kernel("linux-um"),
        initramfs: initramfs().to_owned(),
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
    }
}

/// Start a machine and wait until its guest listens.
pub fn boot(config: &MachineConfig) -> Machine {
    let mut machine = Machine::start(config).unwrap();
    assert_eq!(machine.next_event().unwrap(), Event::Ready);
    machine
}

/// Open a stream and send a command line.
pub fn open(machine: &Machine, command: &str) -> UnixStream {
    let mut stream = machine.connect(PORT).unwrap();
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    stream
}

/// Send a command with its input and return everything that it answers.
pub fn ask_with(machine: &Machine, command: &str, input: &[u8]) -> Vec<u8> {
    let mut stream = open(machine, command);
    let mut answer = Vec::new();
    thread::scope(|scope| {
        // The guest may answer before it has read everything.
        let mut writer = stream.try_clone().unwrap();
        scope.spawn(move || {
            writer.write_all(input).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut answer).unwrap();
    });
    answer
}

/// Send a command and return what it answers as text.
pub fn ask(machine: &Machine, command: &str) -> String {
    String::from_utf8(ask_with(machine, command, &[]))
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Wait for the machine's end.
pub fn end(machine: &mut Machine) -> StopReason {
    loop {
        if let Event::Stopped(reason) = machine.next_event().unwrap() {
            return reason;
        }
    }
}
