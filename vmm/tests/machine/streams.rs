//! Streams into the guest.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Instant;

use crate::support::{ask, ask_with, boot, config, open};

pub const TESTS: &[(&str, fn())] = &[
    (
        "streams::large_data_arrives_whole_both_ways",
        large_data_arrives_whole_both_ways,
    ),
    ("streams::hundreds_at_once", hundreds_at_once),
    (
        "streams::refused_connections_close",
        refused_connections_close,
    ),
    (
        "streams::half_close_keeps_the_other_half",
        half_close_keeps_the_other_half,
    ),
    (
        "streams::slow_readers_hold_nobody_up",
        slow_readers_hold_nobody_up,
    ),
    (
        "streams::vanished_hosts_are_noticed",
        vanished_hosts_are_noticed,
    ),
];

/// How much goes through: 1 GiB in the benchmark's size, less by default.
fn amount() -> u64 {
    std::env::var("HULL_TEST_BYTES").map_or(64 << 20, |text| text.parse().unwrap())
}

fn pattern(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|i| (i % 251) as u8).collect()
}

fn large_data_arrives_whole_both_ways() {
    let machine = boot(&config("large"));
    let amount = amount();

    let start = Instant::now();
    let mut stream = open(&machine, &format!("source {amount}"));
    let mut buffer = vec![0; 1 << 17];
    let mut total = 0;
    loop {
        let n = stream.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        assert!(
            buffer[..n] == pattern(total, n),
            "wrong data after {total} bytes"
        );
        total += n as u64;
    }
    assert_eq!(total, amount);
    let out = start.elapsed();

    let start = Instant::now();
    let mut stream = open(&machine, "sink");
    let mut at = 0;
    while at < amount {
        let block = pattern(at, (amount - at).min(1 << 16) as usize);
        stream.write_all(&block).unwrap();
        at += block.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{amount} 0\n"));
    let rate = |time: std::time::Duration| amount as f64 / 1e6 / time.as_secs_f64();
    eprintln!(
        "out {:.0} MB/s, in {:.0} MB/s",
        rate(out),
        rate(start.elapsed())
    );
}

fn hundreds_at_once() {
    let machine = boot(&config("hundreds"));
    thread::scope(|scope| {
        for i in 0..300u32 {
            let machine = &machine;
            scope.spawn(move || {
                let data = i.to_le_bytes().repeat(5000);
                assert!(ask_with(machine, "echo", &data) == data);
            });
        }
    });
}

fn refused_connections_close() {
    let machine = boot(&config("refused"));
    let mut stream = machine.connect(9999).unwrap();
    let mut data = Vec::new();
    // Whether the close is seen as an end or as a reset depends on what was written.
    let _ = stream.read_to_end(&mut data);
    assert!(data.is_empty());
    assert!(ask(&machine, "read /proc/version").starts_with("Linux"));
}

fn half_close_keeps_the_other_half() {
    let machine = boot(&config("half-close"));
    // The guest answers only after it has seen the end of the input.
    let data = pattern(0, 300_000);
    assert_eq!(ask_with(&machine, "sink", &data), b"300000 0\n");
}

fn slow_readers_hold_nobody_up() {
    let machine = boot(&config("slow"));
    // Nobody reads this one: its data fills every buffer on the way.
    let stuck = open(&machine, "source 100000000");
    for _ in 0..20 {
        assert_eq!(ask_with(&machine, "echo", b"hello"), b"hello");
    }
    drop(stuck);
    assert_eq!(ask_with(&machine, "echo", b"again"), b"again");
}

fn vanished_hosts_are_noticed() {
    let machine = boot(&config("vanished"));
    for _ in 0..50 {
        let mut stream = open(&machine, "source 10000000");
        let mut some = [0; 1000];
        stream.read_exact(&mut some).unwrap();
    }
    // Were the guest's threads still there, their stacks would show.
    assert_eq!(ask_with(&machine, "echo", b"alive"), b"alive");
}
