//! The first process of a test guest: a server on vsock that does what tests ask for.
//!
//! Built by the tests themselves with `rustc`, static, from the standard library alone.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

const AF_VSOCK: i32 = 40;
const SOCK_STREAM: i32 = 1;
const SOCK_CLOEXEC: i32 = 0o2000000;

#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn bind(fd: i32, address: *const Address, len: u32) -> i32;
    fn listen(fd: i32, backlog: i32) -> i32;
    fn accept(fd: i32, address: *mut Address, len: *mut u32) -> i32;
    fn connect(fd: i32, address: *const Address, len: u32) -> i32;
    fn shutdown(fd: i32, how: i32) -> i32;
    fn reboot(command: u32) -> i32;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, flags: i32) -> i32;
    fn _exit(code: i32) -> !;
    fn ioctl(fd: i32, request: u64, argument: *const u64) -> i32;
    fn setxattr(path: *const u8, name: *const u8, value: *const u8, len: usize, flags: i32) -> i32;
    fn getxattr(path: *const u8, name: *const u8, value: *mut u8, len: usize) -> isize;
    fn mount(
        source: *const u8,
        target: *const u8,
        kind: *const u8,
        flags: u64,
        data: *const u8,
    ) -> i32;
}

fn vsock() -> File {
    let fd = unsafe { socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "no vsock");
    File::from(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(cid: u32, port: u32) -> Address {
    Address { family: AF_VSOCK as u16, reserved: 0, port, cid, zero: [0; 4] }
}

fn mount_at(source: &str, target: &str, kind: &str, read_only: bool) -> std::io::Result<()> {
    let text = |text: &str| format!("{text}\0");
    fs::create_dir_all(target)?;
    let flags = u64::from(read_only);
    let (source, target, kind) = (text(source), text(target), text(kind));
    let result = unsafe {
        mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, b"\0".as_ptr())
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn main() {
    // What the guest runs to see whether a copy of this program can be executed.
    if std::env::args().nth(1).as_deref() == Some("true") {
        return;
    }
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount_at(kind, target, kind, false).expect(kind);
    }
    let listener = vsock();
    let any = address(u32::MAX, 1024);
    assert_eq!(unsafe { bind(listener.as_raw_fd(), &any, 16) }, 0);
    assert_eq!(unsafe { listen(listener.as_raw_fd(), 1024) }, 0);
    let ready = vsock();
    assert_eq!(unsafe { connect(ready.as_raw_fd(), &address(2, 1025), 16) }, 0);
    drop(ready);
    loop {
        let fd = unsafe {
            accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut())
        };
        if fd >= 0 {
            let stream = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
            thread::spawn(move || serve(stream));
        }
    }
}

fn serve(stream: File) {
    let mut input = BufReader::with_capacity(1 << 17, stream.try_clone().expect("clone"));
    let mut line = String::new();
    input.read_line(&mut line).expect("line");
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut output = stream.try_clone().expect("clone");
    if let Err(error) = command(&words, &mut input, &mut output) {
        let _ = writeln!(output, "error: {error}");
    }
    unsafe { shutdown(stream.as_raw_fd(), 2) };
}

fn command(words: &[&str], input: &mut BufReader<File>, output: &mut File) -> std::io::Result<()> {
    match words {
        ["echo"] => {
            let mut buffer = vec![0; 1 << 17];
            loop {
                let n = input.read(&mut buffer)?;
                if n == 0 {
                    return Ok(());
                }
                output.write_all(&buffer[..n])?;
            }
        }
        ["source", count] => {
            let mut left: u64 = count.parse().expect("number");
            let mut at = 0u64;
            while left > 0 {
                let n = left.min(1 << 16);
                let block: Vec<u8> = (at..at + n).map(|i| (i % 251) as u8).collect();
                output.write_all(&block)?;
                at += n;
                left -= n;
            }
        }
        ["sink"] => {
            let mut buffer = vec![0; 1 << 17];
            let (mut total, mut wrong) = (0u64, 0u64);
            loop {
                let n = input.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                for (i, byte) in buffer[..n].iter().enumerate() {
                    wrong += u64::from(*byte != ((total + i as u64) % 251) as u8);
                }
                total += n as u64;
            }
            writeln!(output, "{total} {wrong}")?;
        }
        ["read", path] => {
            std::io::copy(&mut File::open(path)?, output)?;
        }
        ["read", path, offset, len] => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset.parse().expect("number")))?;
            std::io::copy(&mut file.take(len.parse().expect("number")), output)?;
        }
        ["scan", path] => {
            let mut file = File::open(path)?;
            let mut buffer = vec![0; 1 << 20];
            let mut total = 0;
            loop {
                let n = file.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                total += n;
            }
            writeln!(output, "{total}")?;
        }
        ["write", path, offset] => {
            let mut file = OpenOptions::new().write(true).create(true).open(path)?;
            file.seek(SeekFrom::Start(offset.parse().expect("number")))?;
            std::io::copy(input, &mut file)?;
            file.sync_all()?;
            writeln!(output, "ok")?;
        }
        ["discard", path, offset, len] => {
            let file = OpenOptions::new().write(true).open(path)?;
            let range = [offset.parse().expect("number"), len.parse::<u64>().expect("number")];
            const BLKDISCARD: u64 = 0x1277;
            if unsafe { ioctl(file.as_raw_fd(), BLKDISCARD, range.as_ptr()) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            writeln!(output, "ok")?;
        }
        ["list", path] => {
            let mut names: Vec<String> = fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<Result<_, _>>()?;
            names.sort();
            writeln!(output, "{}", names.join(" "))?;
        }
        ["mount", source, target, kind, mode] => {
            mount_at(source, target, kind, *mode == "ro")?;
            writeln!(output, "ok")?;
        }
        ["setxattr", path, name, value] => {
            let (path, name) = (format!("{path}\0"), format!("{name}\0"));
            let (path, name) = (path.as_ptr(), name.as_ptr());
            if unsafe { setxattr(path, name, value.as_ptr(), value.len(), 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            writeln!(output, "ok")?;
        }
        ["getxattr", path, name] => {
            let (path, name) = (format!("{path}\0"), format!("{name}\0"));
            let mut value = vec![0; 256];
            let len = unsafe {
                getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr(), value.len())
            };
            if len < 0 {
                return Err(std::io::Error::last_os_error());
            }
            output.write_all(&value[..len as usize])?;
        }
        ["run", path] => {
            let status = std::process::Command::new(path).arg("true").status()?;
            writeln!(output, "{}", status.code().unwrap_or(-1))?;
        }
        ["copy", from, to] => {
            fs::copy(from, to)?;
            writeln!(output, "ok")?;
        }
        ["mkdir", path] => {
            fs::create_dir(path)?;
            writeln!(output, "ok")?;
        }
        ["rename", from, to] => {
            fs::rename(from, to)?;
            writeln!(output, "ok")?;
        }
        ["remove", path] => {
            fs::remove_file(path)?;
            writeln!(output, "ok")?;
        }
        ["forks", count] => {
            let count: u32 = count.parse().expect("number");
            let start = std::time::Instant::now();
            for _ in 0..count {
                let pid = unsafe { fork() };
                if pid == 0 {
                    unsafe { _exit(0) };
                }
                unsafe { waitpid(pid, std::ptr::null_mut(), 0) };
            }
            writeln!(output, "{}", start.elapsed().as_micros() / u128::from(count))?;
        }
        ["eat"] => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1u8; 1 << 20]);
            }
        }
        ["poweroff"] => unsafe {
            reboot(0x4321_fedc);
        },
        ["reboot"] => unsafe {
            reboot(0x0123_4567);
        },
        ["exit"] => std::process::exit(3),
        _ => writeln!(output, "what?")?,
    }
    Ok(())
}
