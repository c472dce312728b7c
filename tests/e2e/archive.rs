//! Images and layers made by hand, and what comes out of them in comparable form.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Builds one layer's tar archive.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    pub fn file(self, path: &str, content: &[u8]) -> Self {
        self.file_with(path, content, 0o644, 0, &[])
    }

    pub fn file_with(
        mut self,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: u64,
        xattrs: &[(&str, &[u8])],
    ) -> Self {
        let records: Vec<(String, &[u8])> = xattrs
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value))
            .collect();
        self.0
            .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))
            .unwrap();
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len() as u64);
        header.set_uid(owner);
        header.set_gid(owner);
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }

    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.special(path, tar::EntryType::Directory, mode, None)
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.special(path, tar::EntryType::Symlink, 0o777, Some(target))
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.special(path, tar::EntryType::Link, 0o644, Some(target))
    }

    pub fn fifo(self, path: &str) -> Self {
        self.special(path, tar::EntryType::Fifo, 0o600, None)
    }

    pub fn device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Char, 0o600, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0
            .append_data(&mut header, path, std::io::empty())
            .unwrap();
        self
    }

    pub fn whiteout(self, path: &str) -> Self {
        let path = Path::new(path);
        let name = format!(".wh.{}", path.file_name().unwrap().to_str().unwrap());
        self.file(path.with_file_name(name).to_str().unwrap(), b"")
    }

    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), b"")
    }

    /// An entry whose name is written as it is, however wrong.
    pub fn raw_name(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, 0o644, content.len() as u64);
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn special(
        mut self,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        target: Option<&str>,
    ) -> Self {
        let mut header = Self::header(kind, mode, 0);
        match target {
            Some(target) => self.0.append_link(&mut header, path, target).unwrap(),
            None => self
                .0
                .append_data(&mut header, path, std::io::empty())
                .unwrap(),
        }
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An OCI layout directory with one image of these layers (tar archives, bottom first).
pub fn oci_layout(directory: &Path, name: &str, layers: &[Vec<u8>], cmd: &[&str]) -> PathBuf {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], media_type: &str| {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest), bytes).unwrap();
        serde_json::json!({
            "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()
        })
    };
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| put(layer, "application/vnd.oci.image.layer.v1.tar"))
        .collect();
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(layer)))
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": cmd, "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| serde_json::json!({"created_by": "test"})).collect::<Vec<_>>(),
    });
    let config = put(
        &serde_json::to_vec(&config).unwrap(),
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": descriptors,
    });
    let mut manifest = put(
        &serde_json::to_vec(&manifest).unwrap(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(
        directory.join("index.json"),
        serde_json::to_vec(&index).unwrap(),
    )
    .unwrap();
    fs::write(
        directory.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    directory.to_owned()
}

/// A directory as a tar archive.
pub fn tar_directory(directory: &Path, target: &Path) {
    let mut builder = tar::Builder::new(File::create(target).unwrap());
    builder.append_dir_all(".", directory).unwrap();
    builder.into_inner().unwrap().flush().unwrap();
}

/// Everything that can be compared about a file.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Node {
    pub kind: String,
    pub mode: u32,
    pub owner: (u64, u64),
    pub modified: u64,
    pub device: (u32, u32),
    pub link: String,
    pub size: u64,
    pub content: String,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

pub type Tree = BTreeMap<String, Node>;

/// The files of a tar archive; hard links become copies of what they link to, so that two
/// archives which order them differently compare equal, and are listed on the side.
pub fn read_tree(archive: impl Read) -> Tree {
    let mut tree = Tree::new();
    let mut links = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let path = path
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        let mut xattrs = BTreeMap::new();
        if let Some(records) = entry.pax_extensions().unwrap() {
            for record in records {
                let record = record.unwrap();
                if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
                }
            }
        }
        let header = entry.header();
        let kind = header.entry_type();
        let link = entry
            .link_name()
            .unwrap()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if kind.is_hard_link() {
            links.push((path, link.trim_start_matches("./").to_owned()));
            continue;
        }
        let device = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
        let special = kind.is_character_special() || kind.is_block_special();
        let mut node = Node {
            kind: format!("{kind:?}"),
            mode: header.mode().unwrap() & 0o7777,
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            modified: header.mtime().unwrap(),
            device: match special {
                true => (device(header.device_major()), device(header.device_minor())),
                false => (0, 0),
            },
            link,
            size: 0,
            content: String::new(),
            xattrs,
        };
        if kind.is_file() || kind.is_gnu_sparse() {
            let (digest, size) = hull::image::digest::Digest::of_reader(&mut entry).unwrap();
            (node.size, node.content) = (size, digest.hex());
            node.kind = "Regular".to_owned();
        }
        tree.insert(path, node);
    }
    for (path, target) in links {
        let node = tree
            .get(&target)
            .unwrap_or_else(|| panic!("{path} links to {target}"))
            .clone();
        tree.insert(path, node);
    }
    tree
}
