//! What a machine costs: time to boot, latency and throughput of streams and disks, memory.
//!
//! `cargo bench -p vmm` prints medians. It needs a guest kernel, as the tests do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark that fails may panic"
)]

#[path = "../tests/machine/support.rs"]
mod support;

use std::fs::{self, File};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::{ask, ask_with, boot, config, end, open};
use vmm::{DirShare, Disk, DiskSource, Event, Machine};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(vmm::VMM_ARGUMENT) {
        return vmm::vmm_main();
    }
    boot_time();
    latency();
    disks();
    crowd(100);
    ExitCode::SUCCESS
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn boot_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let mut config = config("boot-time");
    config.disks = vec![
        Disk {
            serial: "layers".to_owned(),
            source: DiskSource::Partitions(vec![support::initramfs().to_owned()]),
        },
        Disk {
            serial: "writable".to_owned(),
            source: DiskSource::Writable {
                path,
                durable: false,
            },
        },
    ];
    let (mut started, mut ready, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let begin = Instant::now();
        let mut machine = Machine::start(&config).unwrap();
        started.push(begin.elapsed());
        assert_eq!(machine.next_event().unwrap(), Event::Ready);
        ready.push(begin.elapsed());
        drop(open(&machine, "poweroff"));
        end(&mut machine);
        ended.push(begin.elapsed());
    }
    println!(
        "start returns {:?}, guest ready {:?}, powered off {:?}",
        median(started),
        median(ready),
        median(ended)
    );
}

fn latency() {
    let machine = boot(&config("latency"));
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        assert_eq!(ask_with(&machine, "echo", b"hello"), b"hello");
        times.push(begin.elapsed());
    }
    println!("connect, 5 bytes and back: {:?}", median(times));
    println!("fork in the guest: {} us", ask(&machine, "forks 200"));
    memory(machine.pid());
}

/// Proportional memory of the VMM's processes and of everything below them.
fn memory(pid: i32) {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        all.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|word| word.parse::<i32>().ok()),
        );
        at += 1;
    }
    for pid in all {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            rollup
                .lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_whitespace().nth(1))
                .unwrap_or("?")
                .to_owned()
        };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        println!(
            "{pid} {}: rss {} kB, pss {} kB (anonymous {}, shared memory {})",
            name.trim(),
            field("Rss:"),
            field("Pss:"),
            field("Pss_Anon:"),
            field("Pss_Shmem:")
        );
    }
}

fn disks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let size = 256 << 20;
    fs::write(&path, vec![1; size]).unwrap();
    let mut config = config("disks");
    config.disks = vec![Disk {
        serial: "writable".to_owned(),
        source: DiskSource::Writable {
            path,
            durable: false,
        },
    }];
    config.shares = vec![DirShare {
        tag: "data".to_owned(),
        source: directory.path().to_owned(),
        read_only: true,
    }];
    let machine = boot(&config);
    let rate = |time: Duration| size as f64 / 1e6 / time.as_secs_f64();
    let begin = Instant::now();
    assert_eq!(ask(&machine, "scan /dev/vda"), size.to_string());
    println!("disk read {:.0} MB/s", rate(begin.elapsed()));
    assert_eq!(ask(&machine, "mount data /data virtiofs ro"), "ok");
    let begin = Instant::now();
    assert_eq!(ask(&machine, "scan /data/disk"), size.to_string());
    println!("share read {:.0} MB/s", rate(begin.elapsed()));
}

/// Many machines at once: until all listen, and what each takes.
fn crowd(count: usize) {
    let available = || {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        let line = meminfo
            .lines()
            .find(|line| line.starts_with("MemAvailable:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    let config = config("crowd");
    let before = available();
    let begin = Instant::now();
    let mut machines: Vec<_> = (0..count)
        .map(|_| Machine::start(&config).unwrap())
        .collect();
    for machine in &mut machines {
        assert_eq!(machine.next_event().unwrap(), Event::Ready);
    }
    let all = begin.elapsed();
    let each = (before - available()) / count as i64;
    let begin = Instant::now();
    drop(machines);
    println!(
        "{count} machines ready after {all:?}, {each} kB each, gone after {:?}",
        begin.elapsed()
    );
}
