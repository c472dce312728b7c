//! A GUID partition table for a disk that is composed of files.
//!
//! The head (protective MBR, header, entries) and the tail (the backup entries and header)
//! are made in memory; the files lie between them, each at a multiple of 4 KiB. The table is
//! a function of the files' sizes alone.

/// The disk's sector size.
pub(crate) const SECTOR: u64 = 512;

/// Partitions begin at multiples of this.
const ALIGN: u64 = 4096;

/// The size of one entry in the table.
const ENTRY: usize = 128;

/// The least number of entries that the specification allows.
const MIN_ENTRIES: usize = 128;

/// `0FC63DAF-8483-4772-8E79-3D69D8477DE4`, Linux file system data, as it lies on the disk.
const LINUX_DATA: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];

/// Where everything lies on a composed disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The first bytes of the disk.
    pub(crate) head: Vec<u8>,
    /// The byte at which each file begins.
    pub(crate) starts: Vec<u64>,
    /// The last bytes of the disk.
    pub(crate) tail: Vec<u8>,
    /// The byte at which the tail begins.
    pub(crate) tail_start: u64,
    /// The size of the disk in bytes.
    pub(crate) size: u64,
}

/// Lay files of these sizes out on a disk of `size` bytes, or of what they need. `None` when
/// there are too many, or the disk would be larger than that or than the table can say.
pub(crate) fn layout(sizes: &[u64], size: Option<u64>) -> Option<Layout> {
    let entries = sizes.len().max(MIN_ENTRIES).next_multiple_of(MIN_ENTRIES);
    let table_sectors = (entries * ENTRY) as u64 / SECTOR;
    let mut at = ((2 + table_sectors) * SECTOR).next_multiple_of(ALIGN);
    let first_usable = at / SECTOR;
    let mut table = vec![0; entries * ENTRY];
    let mut starts = Vec::with_capacity(sizes.len());
    for (index, (size, entry)) in sizes.iter().zip(table.chunks_exact_mut(ENTRY)).enumerate() {
        let end = at.checked_add((*size).max(1).checked_next_multiple_of(ALIGN)?)?;
        put(entry, 0, &LINUX_DATA);
        put(entry, 16, &guid(u32::try_from(index).ok()?.checked_add(1)?));
        put(entry, 32, &(at / SECTOR).to_le_bytes());
        put(entry, 40, &(end / SECTOR - 1).to_le_bytes());
        starts.push(at);
        at = end;
    }
    let tail_len = (table_sectors + 1) * SECTOR;
    let needed = at.checked_add(tail_len)?;
    let size = size.unwrap_or(needed);
    if size > i64::MAX as u64 || size < needed || !size.is_multiple_of(SECTOR) {
        return None;
    }
    let tail_start = size - tail_len;
    let last = size / SECTOR - 1;
    let geometry = Geometry {
        first_usable,
        last_usable: tail_start / SECTOR - 1,
        entries: u32::try_from(entries).ok()?,
        table_crc: crc32fast::hash(&table),
    };
    let mut head = protective_mbr(last);
    head.extend(geometry.header(1, last, 2));
    head.extend(&table);
    head.resize(usize::try_from(first_usable * SECTOR).ok()?, 0);
    let mut tail = table;
    tail.extend(geometry.header(last, 1, tail_start / SECTOR));
    Some(Layout {
        head,
        starts,
        tail,
        tail_start,
        size,
    })
}

struct Geometry {
    first_usable: u64,
    last_usable: u64,
    entries: u32,
    table_crc: u32,
}

impl Geometry {
    fn header(&self, own: u64, other: u64, table: u64) -> Vec<u8> {
        let mut header = vec![0; SECTOR as usize];
        put(&mut header, 0, b"EFI PART");
        put(&mut header, 8, &0x0001_0000u32.to_le_bytes());
        put(&mut header, 12, &92u32.to_le_bytes());
        put(&mut header, 24, &own.to_le_bytes());
        put(&mut header, 32, &other.to_le_bytes());
        put(&mut header, 40, &self.first_usable.to_le_bytes());
        put(&mut header, 48, &self.last_usable.to_le_bytes());
        put(&mut header, 56, &guid(0));
        put(&mut header, 72, &table.to_le_bytes());
        put(&mut header, 80, &self.entries.to_le_bytes());
        put(&mut header, 84, &(ENTRY as u32).to_le_bytes());
        put(&mut header, 88, &self.table_crc.to_le_bytes());
        let crc = crc32fast::hash(header.get(..92).unwrap_or_default());
        put(&mut header, 16, &crc.to_le_bytes());
        header
    }
}

/// One partition of type 0xee over the whole disk, so that nothing takes it for empty.
fn protective_mbr(last: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR as usize];
    put(&mut mbr, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    put(&mut mbr, 454, &1u32.to_le_bytes());
    put(
        &mut mbr,
        458,
        &u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes(),
    );
    put(&mut mbr, 510, &[0x55, 0xaa]);
    mbr
}

/// GUIDs only have to differ within the disk: a fixed one with the index in it.
fn guid(index: u32) -> [u8; 16] {
    let mut guid = *b"\0\0\0\0hu\x4cl\x80layers\0";
    put(&mut guid, 0, &index.to_le_bytes());
    guid
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(target) = bytes.get_mut(at..at + value.len()) {
        target.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn header_is_sound(header: &[u8], table: &[u8]) {
        assert_eq!(&header[..8], b"EFI PART");
        let mut copy = header[..92].to_vec();
        copy[16..20].fill(0);
        assert_eq!(u32_at(header, 16), crc32fast::hash(&copy));
        assert_eq!(u32_at(header, 88), crc32fast::hash(table));
        assert_eq!(u32_at(header, 80) as usize * ENTRY, table.len());
    }

    proptest! {
        #[test]
        fn every_layout_is_a_sound_table(
            sizes in prop::collection::vec(0u64..1 << 40, 1..=200),
            more in prop::option::of(0u64..1 << 40),
        ) {
            let least = layout(&sizes, None).unwrap().size;
            let given = more.map(|sectors| least + sectors * SECTOR);
            prop_assert_eq!(layout(&sizes, Some(least - SECTOR)), None);
            let layout = layout(&sizes, given).unwrap();
            prop_assert_eq!(layout.size, given.unwrap_or(least));
            let table_len = if sizes.len() > 128 { 256 * ENTRY } else { 128 * ENTRY };
            let table = &layout.head[1024..1024 + table_len];
            header_is_sound(&layout.head[512..1024], table);
            header_is_sound(&layout.tail[table_len..], &layout.tail[..table_len]);
            prop_assert_eq!(table, &layout.tail[..table_len]);
            prop_assert_eq!(layout.size, layout.tail_start + layout.tail.len() as u64);
            // Each header names its own place, the other's and its table's.
            let last = layout.size / SECTOR - 1;
            prop_assert_eq!(u64_at(&layout.head, 512 + 24), 1);
            prop_assert_eq!(u64_at(&layout.head, 512 + 32), last);
            prop_assert_eq!(u64_at(&layout.tail, table_len + 24), last);
            prop_assert_eq!(u64_at(&layout.tail, table_len + 72) * SECTOR, layout.tail_start);
            let (first, end) = (u64_at(&layout.head, 512 + 40), u64_at(&layout.head, 512 + 48));
            prop_assert_eq!(first * SECTOR, layout.head.len() as u64);
            prop_assert_eq!((end + 1) * SECTOR, layout.tail_start);
            // The partitions are in order, hold their files and do not overlap.
            let mut free = first;
            for (index, (size, start)) in sizes.iter().zip(&layout.starts).enumerate() {
                let entry = &table[index * ENTRY..];
                prop_assert_eq!(u64_at(entry, 32) * SECTOR, *start);
                prop_assert!(u64_at(entry, 32) >= free);
                let past = u64_at(entry, 40) + 1;
                prop_assert!(past * SECTOR >= start + size);
                prop_assert!(past <= end + 1);
                free = past;
            }
            prop_assert!(table[sizes.len() * ENTRY..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn sizes_beyond_the_format_are_refused() {
        assert_eq!(layout(&[u64::MAX], None), None);
        assert_eq!(layout(&[u64::MAX - 8192], None), None);
        assert_eq!(layout(&[1], Some((1 << 20) + 1)), None);
    }
}
