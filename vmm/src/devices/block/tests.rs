use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::devices::testing::{BUFFERS, Driver, MEMORY, Piece, hostile, memory, turns};

const HEADER: u64 = BUFFERS;
const STATUS: u64 = BUFFERS + 64;
const TABLE: u64 = BUFFERS + 4096;
const DATA: u64 = BUFFERS + 65536;

/// The size of a test's writable disk.
const DISK: usize = 64 * 1024;

fn writable() -> (File, Block) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK as u64).unwrap();
    let disk = Disk::writable(file.try_clone().unwrap(), true).unwrap();
    (file, Block::new(disk, "serial".to_owned()))
}

/// Send one request with its data in pieces of the given lengths; status and what was read.
fn request(
    block: &mut Block,
    kind: u32,
    sector: u64,
    out: &[u8],
    read: usize,
    cuts: &[u32],
    indirect: bool,
) -> (u8, Vec<u8>, u32) {
    let memory = memory();
    let (mut driver, queue) = Driver::new(&memory, 0);
    driver.write(HEADER, &kind.to_le_bytes());
    driver.write(HEADER + 8, &sector.to_le_bytes());
    driver.write(STATUS, &[0xff]);
    driver.write(DATA, out);
    let mut pieces = vec![Piece {
        address: HEADER,
        len: 16,
        writable: false,
    }];
    let (mut at, mut left) = (DATA, (out.len() + read) as u32);
    let mut cuts = cuts.iter();
    while left > 0 {
        let len = (*cuts.next().unwrap_or(&left)).clamp(1, left);
        pieces.push(Piece {
            address: at,
            len,
            writable: read > 0,
        });
        at += u64::from(len);
        left -= len;
    }
    pieces.push(Piece {
        address: STATUS,
        len: 1,
        writable: true,
    });
    if indirect {
        driver.offer_indirect(&pieces, TABLE);
    } else {
        driver.offer(&pieces);
    }
    turns(&mut [queue], |queues| block.queue_event(0, &memory, queues)).unwrap();
    let used = driver.used().unwrap();
    assert_eq!(driver.used(), None);
    (driver.read(STATUS, 1)[0], driver.read(DATA, read), used)
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Discard(u64, u32),
    Zero(u64, u32),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let sectors = DISK as u64 / SECTOR;
    prop_oneof![
        (0..sectors + 4, 1usize..8, any::<u8>())
            .prop_map(|(at, n, byte)| Step::Write(at, vec![byte; n * SECTOR as usize])),
        (0..sectors + 4, 1usize..8).prop_map(|(at, n)| Step::Read(at, n * SECTOR as usize)),
        (0..sectors + 4, 0u32..16).prop_map(|(at, n)| Step::Discard(at, n)),
        (0..sectors + 4, 0u32..16).prop_map(|(at, n)| Step::Zero(at, n)),
        Just(Step::Flush),
    ]
}

proptest! {
    /// Whatever the order of requests and the cut of their buffers, the disk is what a
    /// plain array would be, and requests beyond its end fail and change nothing.
    #[test]
    fn a_disk_is_an_array(
        steps in prop::collection::vec(step(), 1..20),
        cuts in prop::collection::vec(1u32..2000, 0..6),
        indirect: bool,
    ) {
        let (file, mut block) = writable();
        let mut model = vec![0; DISK];
        for step in steps {
            match step {
                Step::Write(sector, data) => {
                    let at = (sector * SECTOR) as usize;
                    let fits = at + data.len() <= DISK;
                    let kind = blk::VIRTIO_BLK_T_OUT;
                    let (status, _, used) = request(&mut block, kind, sector, &data, 0, &cuts, indirect);
                    prop_assert_eq!((status, used), (u8::from(!fits), 1));
                    if fits {
                        model[at..at + data.len()].copy_from_slice(&data);
                    }
                }
                Step::Read(sector, len) => {
                    let at = (sector * SECTOR) as usize;
                    let fits = at + len <= DISK;
                    let kind = blk::VIRTIO_BLK_T_IN;
                    let (status, data, used) = request(&mut block, kind, sector, &[], len, &cuts, indirect);
                    prop_assert_eq!(status, u8::from(!fits));
                    if fits {
                        prop_assert_eq!(used as usize, len + 1);
                        prop_assert!(data == model[at..at + len]);
                    }
                }
                Step::Discard(sector, count) | Step::Zero(sector, count) => {
                    let discard = matches!(step, Step::Discard(..));
                    let kind = if discard { blk::VIRTIO_BLK_T_DISCARD } else { blk::VIRTIO_BLK_T_WRITE_ZEROES };
                    let mut range = sector.to_le_bytes().to_vec();
                    range.extend(count.to_le_bytes());
                    range.extend([0; 4]);
                    let at = (sector * SECTOR) as usize;
                    let len = count as usize * SECTOR as usize;
                    let fits = at + len <= DISK;
                    let (status, ..) = request(&mut block, kind, 0, &range, 0, &cuts, indirect);
                    prop_assert_eq!(status, u8::from(!fits));
                    if fits {
                        model[at..at + len].fill(0);
                    }
                }
                Step::Flush => {
                    let kind = blk::VIRTIO_BLK_T_FLUSH;
                    prop_assert_eq!(request(&mut block, kind, 0, &[], 0, &[], indirect).0, 0);
                }
            }
        }
        let mut contents = vec![0; DISK];
        file.read_exact_at(&mut contents, 0).unwrap();
        prop_assert!(contents == model);
        prop_assert_eq!(file.metadata().unwrap().len(), DISK as u64);
    }

    /// Whatever is in the ring, nothing panics, hangs or leaves guest memory, and the file
    /// keeps its size.
    #[test]
    fn hostile_rings_are_harmless(
        descriptors in hostile::descriptors(),
        heads in hostile::heads(),
        available in prop::option::of(any::<u16>()),
        kinds in prop::collection::vec(0u32..16, 8),
    ) {
        let (file, mut block) = writable();
        let memory = memory();
        let (mut driver, queue) = Driver::new(&memory, 0);
        // Headers that make some sense wherever a descriptor may point.
        for (i, kind) in kinds.iter().enumerate() {
            driver.write(BUFFERS + i as u64 * 128, &kind.to_le_bytes());
        }
        for (index, address, len, flags, next) in descriptors {
            driver.write_raw(index, address, len, flags, next);
        }
        for head in heads {
            driver.publish(head);
        }
        if let Some(index) = available {
            driver.set_available(index);
        }
        let _ = turns(&mut [queue], |queues| block.queue_event(0, &memory, queues));
        prop_assert_eq!(file.metadata().unwrap().len(), DISK as u64);
    }

    /// Every byte of a composed disk comes from where the layout says.
    #[test]
    fn a_composed_disk_is_its_parts(
        files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 1..5),
        sector in 0u64..120,
        len in 1usize..20,
        size in prop::option::of(100u64..130),
    ) {
        let sizes: Vec<u64> = files.iter().map(|data| data.len() as u64).collect();
        let size = size.map(|sectors| sectors * SECTOR);
        let size = size.filter(|size| gpt::layout(&sizes, Some(*size)).is_some());
        let layout = gpt::layout(&sizes, size).unwrap();
        let mut model = vec![0; layout.size as usize];
        let mut put = |at: usize, data: &[u8]| model[at..at + data.len()].copy_from_slice(data);
        put(0, &layout.head);
        put(layout.tail_start as usize, &layout.tail);
        for (data, start) in files.iter().zip(&layout.starts) {
            put(*start as usize, data);
        }
        let files = files
            .iter()
            .map(|data| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(data).unwrap();
                file
            })
            .collect();
        let mut block = Block::new(Disk::composed(files, size).unwrap(), String::new());
        let len = len * SECTOR as usize;
        let at = (sector * SECTOR) as usize;
        let kind = blk::VIRTIO_BLK_T_IN;
        let (status, data, _) = request(&mut block, kind, sector, &[], len, &[700], false);
        if at + len <= model.len() {
            prop_assert_eq!(status, 0);
            prop_assert!(data == model[at..at + len]);
        } else {
            prop_assert_eq!(status, 1);
        }
        // It cannot be written.
        let kind = blk::VIRTIO_BLK_T_OUT;
        prop_assert_eq!(request(&mut block, kind, 0, &[0; 512], 0, &[], false).0, 2);
    }
}

#[test]
fn an_awaited_disk_is_zeros_until_its_own_comes() {
    let size = DISK as u64;
    let read = |block: &mut Block| request(block, blk::VIRTIO_BLK_T_IN, 0, &[], 512, &[], false);
    for writable in [false, true] {
        let awaited = Disk::Awaited { size, writable };
        let mut block = Block::new(awaited, String::new());
        let told = block.features();
        let (status, data, _) = read(&mut block);
        assert_eq!((status, data), (0, vec![0; 512]));
        let kind = blk::VIRTIO_BLK_T_OUT;
        assert_eq!(request(&mut block, kind, 0, &[7; 512], 0, &[], false).0, 2);
        let file = |byte| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[byte; DISK]).unwrap();
            file
        };
        let small = tempfile::tempfile().unwrap();
        small.set_len(4096).unwrap();
        let partitions = Disk::composed(vec![small.try_clone().unwrap()], Some(size)).unwrap();
        let whole = Disk::writable(file(1), false).unwrap();
        let (right, wrong) = if writable {
            (whole, partitions)
        } else {
            (partitions, whole)
        };
        assert!(block.insert(wrong).is_err());
        assert!(block.insert(Disk::writable(small, false).unwrap()).is_err());
        block.insert(right).unwrap();
        assert_eq!(block.features(), told);
        let (status, data, _) = read(&mut block);
        assert_eq!(status, 0);
        assert_eq!(data == [1; 512], writable);
        // There is one only.
        assert!(
            block
                .insert(Disk::writable(file(2), false).unwrap())
                .is_err()
        );
    }
}

#[test]
fn the_serial_is_told() {
    let (_, mut block) = writable();
    let kind = blk::VIRTIO_BLK_T_GET_ID;
    let (status, id, _) = request(&mut block, kind, 0, &[], 20, &[], false);
    assert_eq!(status, 0);
    assert_eq!(id, b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn the_configuration_says_how_large_it_is() {
    let (_, block) = writable();
    let mut capacity = [0; 8];
    block.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity) * SECTOR, DISK as u64);
    // Beyond the end are zeros, wherever the guest reads.
    let mut beyond = [1; 4];
    block.read_config(usize::MAX - 1, &mut beyond);
    assert_eq!(beyond, [0; 4]);
}

#[test]
fn requests_without_a_status_byte_are_errors() {
    let (_, mut block) = writable();
    let memory = memory();
    let (mut driver, queue) = Driver::new(&memory, 0);
    driver.offer(&[Piece {
        address: MEMORY - 16,
        len: 16,
        writable: false,
    }]);
    assert!(turns(&mut [queue], |queues| block.queue_event(0, &memory, queues)).is_err());
}
