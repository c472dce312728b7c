//! Disks as the guest sees them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use vmm::{Disk, DiskSource};

use crate::support::{ask, ask_with, boot, config};

pub const TESTS: &[(&str, fn())] = &[
    (
        "block::partitions_hold_their_files",
        partitions_hold_their_files,
    ),
    ("block::two_hundred_partitions", two_hundred_partitions),
    ("block::writes_reach_the_file", writes_reach_the_file),
    (
        "block::read_only_disks_stay_as_they_are",
        read_only_disks_stay_as_they_are,
    ),
];

fn contents(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 7 + seed * 13 + i / 255) as u8)
        .collect()
}

fn partitions_hold_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let lens = [4096, 1, 10_000, 3 << 20];
    let mut paths = Vec::new();
    for (i, len) in lens.iter().enumerate() {
        let path = directory.path().join(i.to_string());
        fs::write(&path, contents(i, *len)).unwrap();
        paths.push(path);
    }
    let mut config = config("partitions");
    config.disks = vec![Disk {
        serial: "layers".to_owned(),
        source: DiskSource::Partitions(paths),
    }];
    let machine = boot(&config);
    assert_eq!(ask(&machine, "read /sys/block/vda/serial"), "layers");
    assert_eq!(ask(&machine, "read /sys/block/vda/ro"), "1");
    for (i, len) in lens.iter().enumerate() {
        let mut expected = contents(i, *len);
        expected.resize(len.next_multiple_of(4096), 0);
        let got = ask_with(&machine, &format!("read /dev/vda{}", i + 1), &[]);
        assert!(got == expected, "partition {} differs", i + 1);
    }
}

fn two_hundred_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..200)
        .map(|i| {
            let path = directory.path().join(i.to_string());
            fs::write(&path, contents(i, 5000)).unwrap();
            path
        })
        .collect();
    let mut config = config("two-hundred");
    config.disks = vec![Disk {
        serial: "l".to_owned(),
        source: DiskSource::Partitions(paths),
    }];
    let machine = boot(&config);
    for i in [0, 1, 127, 128, 199] {
        let got = ask_with(&machine, &format!("read /dev/vda{} 0 5000", i + 1), &[]);
        assert!(got == contents(i, 5000), "partition {} differs", i + 1);
    }
}

fn writes_reach_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let mut config = config("writes");
    config.disks = vec![Disk {
        serial: "writable".to_owned(),
        source: DiskSource::Writable {
            path: path.clone(),
            durable: true,
        },
    }];
    let machine = boot(&config);
    let data = contents(5, 8 << 20);
    let at = 1 << 20;
    assert_eq!(
        ask_with(&machine, &format!("write /dev/vda {at}"), &data),
        b"ok\n"
    );
    let mut got = vec![0; data.len()];
    let file = File::open(&path).unwrap();
    file.read_exact_at(&mut got, at).unwrap();
    assert!(got == data);
    assert!(ask_with(&machine, &format!("read /dev/vda {at} {}", data.len()), &[]) == data);
    // A discard gives the space back and the range reads as zeros.
    let before = file.metadata().unwrap().blocks();
    assert_eq!(
        ask(&machine, &format!("discard /dev/vda {at} {}", 4 << 20)),
        "ok"
    );
    assert!(file.metadata().unwrap().blocks() + (4 << 20) / 512 <= before);
    assert!(ask_with(&machine, &format!("read /dev/vda {at} 4096"), &[]) == [0; 4096]);
}

fn read_only_disks_stay_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer");
    fs::write(&path, contents(1, 8192)).unwrap();
    let mut config = config("read-only");
    config.disks = vec![Disk {
        serial: "layers".to_owned(),
        source: DiskSource::Partitions(vec![path.clone()]),
    }];
    let machine = boot(&config);
    let answer = ask_with(&machine, "write /dev/vda1 0", b"changed");
    assert!(answer.starts_with(b"error"), "{answer:?}");
    assert!(fs::read(path).unwrap() == contents(1, 8192));
}
