//! How much a layer may ask for.

use super::LayerError;

/// Bounds on what unpacking a layer can cost, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerLimits {
    /// Bytes of the uncompressed archive.
    pub unpacked_bytes: u64,
    /// Uncompressed bytes for each compressed byte, once `ratio_floor` is exceeded.
    pub ratio: u64,
    /// Archives up to this many bytes may be compressed as well as can be.
    pub ratio_floor: u64,
    /// Headers in the archive, and directories made because an entry needed them.
    pub entries: u64,
    /// Bytes of one file, with its holes.
    pub file_bytes: u64,
    /// Bytes of the names and values of one file's extended attributes.
    pub xattr_bytes: usize,
    /// Bytes of memory for names, links and attributes.
    pub memory: usize,
}

impl Default for LayerLimits {
    /// Enough for every image that people build, too little to fill a disk by surprise.
    fn default() -> Self {
        Self {
            unpacked_bytes: 256 << 30,
            ratio: 200,
            ratio_floor: 4 << 30,
            entries: 4_000_000,
            file_bytes: 16 << 40,
            xattr_bytes: 256 << 10,
            memory: 768 << 20,
        }
    }
}

impl LayerLimits {
    /// Checks how much came out of how little.
    pub(super) fn check(&self, unpacked: u64, packed: u64) -> Result<(), LayerError> {
        if unpacked > self.unpacked_bytes {
            let limit = self.unpacked_bytes;
            return Err(LayerError::Limit {
                what: "bytes after decompression",
                limit,
            });
        }
        if unpacked > self.ratio_floor && unpacked / self.ratio.max(1) > packed {
            return Err(LayerError::Ratio {
                unpacked,
                packed,
                ratio: self.ratio,
            });
        }
        Ok(())
    }
}
