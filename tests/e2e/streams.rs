//! Bytes through standard streams: all of them, in both directions, unchanged.

use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;

use sha2::{Digest, Sha256};

use crate::harness::Hull;

const GIBIBYTE: u64 = 1 << 30;

/// A stream that repeats only after 2^61 bytes.
struct Pattern(u64);

impl Pattern {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[test]
fn a_gibibyte_comes_through_intact_both_ways() {
    let hull = Hull::shared();
    let mut child = hull
        .command(&[
            "run",
            "--rm",
            "-i",
            "--log-driver",
            "none",
            "busybox",
            "cat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let mut hasher = Sha256::new();
        let mut pattern = Pattern(1);
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..GIBIBYTE >> 20 {
            pattern.fill(&mut buffer);
            hasher.update(&buffer);
            stdin.write_all(&buffer).unwrap();
        }
        hasher.finalize()
    });
    let mut stdout = child.stdout.take().unwrap();
    let mut hasher = Sha256::new();
    let mut total = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
    assert_eq!(total, GIBIBYTE);
    assert_eq!(hasher.finalize(), writer.join().unwrap());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_guest_computes_the_same_hash() {
    let hull = Hull::shared();
    let input: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let hash: String = Sha256::digest(&input)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let done = hull.feed(&["run", "--rm", "-i", "busybox", "sha256sum"], &input);
    assert_eq!(done.stdout, format!("{hash}  -\n"), "{done:#?}");
}

#[test]
fn without_interactive_standard_input_is_empty() {
    let hull = Hull::shared();
    let done = hull.feed(&["run", "--rm", "busybox", "wc", "-c"], b"never arrives");
    assert_eq!(done.stdout.trim(), "0");
}

#[test]
fn a_program_that_stops_reading_does_not_hold_up_its_output() {
    let hull = Hull::shared();
    let input = vec![b'x'; 8 << 20];
    let done = hull.feed(&["run", "--rm", "-i", "busybox", "head", "-c", "3"], &input);
    assert_eq!((done.code, done.stdout.as_str()), (0, "xxx"));
}
