//! Archives are made entry by entry, or by GNU tar, and converted.

mod archive;
mod behaviour;
mod compare;
mod compressed;
mod fixup;
mod formats;
mod fuzz;
mod refused;

use std::fs::File;
use std::io::Read;

use archive::Archive;

use super::{ConvertedLayer, LayerError, LayerLimits, convert};
use crate::image::erofs::{Inode, Reader};

/// A converted layer, and a look into it.
struct Converted {
    layer: ConvertedLayer,
    reader: Reader,
    file: File,
}

fn convert_with(input: impl Read, limits: &LayerLimits) -> Result<Converted, LayerError> {
    let file = tempfile::tempfile().unwrap();
    let layer = convert(input, &file, limits)?;
    assert_eq!(file.metadata().unwrap().len(), layer.image_size);
    let reader = Reader::open(file.try_clone().unwrap()).unwrap();
    Ok(Converted {
        layer,
        reader,
        file,
    })
}

fn converted(archive: &Archive) -> Converted {
    convert_with(&archive.bytes()[..], &LayerLimits::default()).unwrap()
}

fn refusal(archive: &Archive) -> String {
    refusal_with(archive, &LayerLimits::default())
}

fn refusal_with(archive: &Archive, limits: &LayerLimits) -> String {
    match convert_with(&archive.bytes()[..], limits) {
        Ok(_) => panic!("the archive was accepted"),
        Err(error) => error.to_string(),
    }
}

impl Converted {
    fn get(&self, path: &str) -> Option<Inode> {
        self.reader.lookup(path.as_bytes()).unwrap()
    }

    fn inode(&self, path: &str) -> Inode {
        self.get(path)
            .unwrap_or_else(|| panic!("{path} is missing"))
    }

    fn text(&self, path: &str) -> String {
        let inode = self.inode(path);
        let mut content = vec![0; inode.size as usize];
        self.reader.read_at(&inode, &mut content, 0).unwrap();
        String::from_utf8(content).unwrap()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = self.reader.read_dir(&self.inode(path)).unwrap();
        entries
            .into_iter()
            .map(|entry| String::from_utf8(entry.name).unwrap())
            .collect()
    }

    fn is_opaque(&self, path: &str) -> bool {
        let xattrs = self.reader.xattrs(&self.inode(path)).unwrap();
        xattrs
            .get(&b"trusted.overlay.opaque"[..])
            .is_some_and(|value| value == b"y")
    }

    fn implicit_dirs(&self) -> Vec<&str> {
        self.layer
            .implicit_dirs
            .iter()
            .map(|path| path.to_str().unwrap())
            .collect()
    }
}
