//! How fast things are. Each is done over and over for a tenth of a second, so that a slow
//! machine does not take long and a fast one is still measured.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const SPAN: Duration = Duration::from_millis(100);
/// What is written and sent at a time.
const PIECE: usize = 1 << 20;
/// The most that is written to a disk.
const MOST: usize = 64 << 20;

/// Everything as one value.
pub fn measure() -> io::Result<Value> {
    let (write, read) = file()?;
    Ok(json!({
        "syscall_ns": syscall(),
        "fork_exec_us": fork_exec()?,
        "cpu_ns": cpu(),
        "file_write_mb_s": write,
        "file_read_mb_s": read,
        "network_mb_s": network()?,
    }))
}

/// Does `work`, a thousand things at a time, and returns the nanoseconds per thing.
fn each(mut work: impl FnMut()) -> f64 {
    const BATCH: u32 = 1000;
    let begin = Instant::now();
    let mut done = 0_u32;
    loop {
        for _ in 0..BATCH {
            work();
        }
        done += BATCH;
        let took = begin.elapsed();
        if took >= SPAN {
            return took.as_nanos() as f64 / f64::from(done);
        }
    }
}

fn syscall() -> f64 {
    each(|| {
        black_box(nix::unistd::getppid());
    })
}

fn cpu() -> f64 {
    let mut state = 1_u64;
    each(|| {
        for _ in 0..100 {
            state = black_box(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
        }
    })
}

fn fork_exec() -> io::Result<f64> {
    // Where there is no /proc, nothing else says it.
    let own = std::env::args().next().unwrap_or_default();
    let begin = Instant::now();
    let mut done = 0_u32;
    loop {
        Command::new(&own).arg("nop").status()?;
        done += 1;
        let took = begin.elapsed();
        if took >= SPAN {
            return Ok(took.as_micros() as f64 / f64::from(done));
        }
    }
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}

/// Writes a file in the root directory until it is on the disk, and reads it back.
fn file() -> io::Result<(f64, f64)> {
    let path = "/.hull-probe-file";
    let piece = vec![0x5a_u8; PIECE];
    let begin = Instant::now();
    let mut file = File::create(path)?;
    let mut bytes = 0;
    while begin.elapsed() < SPAN && bytes < MOST {
        file.write_all(&piece)?;
        bytes += PIECE;
    }
    file.sync_data()?;
    let written = rate(bytes, begin.elapsed());
    let mut buffer = vec![0; PIECE];
    let mut file = File::open(path)?;
    let begin = Instant::now();
    let mut count = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            more => count += more,
        }
    }
    let read = rate(count, begin.elapsed());
    fs::remove_file(path)?;
    Ok((written, read))
}

/// Sends bytes to itself over TCP.
fn network() -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = std::thread::spawn(move || -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let piece = vec![0x5a_u8; 128 << 10];
        let begin = Instant::now();
        while begin.elapsed() < SPAN {
            stream.write_all(&piece)?;
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let begin = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut count = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            more => count += more,
        }
    }
    let speed = rate(count, begin.elapsed());
    sender
        .join()
        .map_err(|_| io::Error::other("the sender failed"))??;
    Ok(speed)
}
