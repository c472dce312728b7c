//! What a program sees of the machine that it is on.

use std::fs;

use serde_json::{Value, json};

/// Everything as one value; what cannot be seen is nothing.
pub fn look() -> Value {
    let read = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let kernel = nix::sys::utsname::uname().ok();
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let memory = read("/proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("MemTotal"))?
            .to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    json!({
        "kernel": kernel.as_ref().map(|k| format!("{} {}", text(k.release()), text(k.version()))),
        "machine": kernel.as_ref().map(|k| text(k.machine())),
        "boot": read("/proc/sys/kernel/random/boot_id"),
        "uptime": read("/proc/uptime").and_then(|t| t.split(' ').next().map(str::to_owned)),
        "memory_kb": memory,
        "processes": count("/proc", |name| name.bytes().all(|byte| byte.is_ascii_digit())),
        "devices": count("/dev", |_| true),
        "block_devices": count("/sys/block", |_| true),
        "mounts": read("/proc/self/mountinfo").map(|text| mounts(&text)),
        "command_line": read("/proc/cmdline"),
        "kernel_log": kernel_log(),
        "pid": std::process::id(),
    })
}

/// The file systems that are mounted, each as its device's number and its kind.
fn mounts(text: &str) -> Vec<String> {
    let of = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let device = before.split(' ').nth(2)?;
        Some(format!("{device} {}", after.split(' ').next()?))
    };
    text.lines().filter_map(of).collect()
}

fn count(directory: &str, wanted: impl Fn(&str) -> bool) -> Option<usize> {
    let names = fs::read_dir(directory).ok()?;
    let names = names.filter_map(Result::ok);
    Some(
        names
            .filter(|name| name.file_name().to_str().is_some_and(&wanted))
            .count(),
    )
}

/// Bytes of the kernel's log that can be read.
fn kernel_log() -> Option<usize> {
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0_u8; 1 << 20];
    let length = libc::c_int::try_from(buffer.len()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes, which is what the buffer holds.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    usize::try_from(read).ok()
}
