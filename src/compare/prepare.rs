//! What is put in place before anything runs: the image with the probe in it, in the store for
//! machines and unpacked for what runs on the host.

use std::fs::{self, File, Permissions};
use std::io::{self, Cursor};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::CompareError;
use crate::arch::Platform;
use crate::container::assets;
use crate::image::erofs::FileType;
use crate::image::{self, Commit, Image};
use crate::layers::{self, Content};
use crate::settings::Settings;
use crate::store::Store;

/// The probe's name in the image.
pub const PROBE: &str = "/.hull-probe";

/// The probe's file for a platform.
pub fn probe_file(platform: &Platform) -> Result<PathBuf, CompareError> {
    let arch = match platform.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => return Err(CompareError::NoProbe(format!("for {other}"))),
    };
    let name = format!("guest/probe-{arch}");
    let places = assets::directories();
    let mut files = places.iter().map(|place| place.join(&name));
    let found = files.find(|file| file.is_file());
    found.ok_or(CompareError::NoProbe(name))
}

/// An image with the probe in it, for the time of the comparison.
#[derive(Debug)]
pub struct WithProbe<'a> {
    store: &'a Store,
    /// It.
    pub image: Image,
}

impl<'a> WithProbe<'a> {
    /// Puts the probe on top of an image.
    pub fn new(store: &'a Store, settings: &Settings, base: &Image) -> Result<Self, CompareError> {
        let file = probe_file(&base.platform)?;
        let program =
            fs::read(&file).map_err(|cause| CompareError::io("cannot read", &file, cause))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(program.len() as u64);
        let mut archive = tar::Builder::new(Vec::new());
        let name = PROBE.trim_start_matches('/');
        let added = archive.append_data(&mut header, name, program.as_slice());
        let bytes = added.and_then(|()| archive.into_inner());
        let bytes = bytes.map_err(|cause| CompareError::io("cannot pack", &file, cause))?;
        let step = Commit {
            // Of this comparison's own: another one at the same time removes its own alone.
            created_by: format!("hull compare, process {}", std::process::id()),
            ..Commit::default()
        };
        let mut layer = Cursor::new(bytes);
        let image = image::commit(store, settings, base, &mut layer, |_| Ok(()), &step)?;
        Ok(Self { store, image })
    }
}

impl Drop for WithProbe<'_> {
    fn drop(&mut self) {
        // What stays behind has no name: a prune takes it.
        if self.store.remove_image(&self.image.id).is_ok() {
            let _ = self.store.collect_garbage();
        }
    }
}

/// Unpacks what a container of the image would see into an empty directory. Devices stay out, and
/// nothing keeps the right to be another user.
pub fn unpack(store: &Store, image: &Image, target: &Path) -> Result<(), CompareError> {
    let open = layers::open_image(store, "", image)?;
    for (path, reader, inode) in open.files() {
        // Every directory above was made here, and is none of somebody's links.
        let place = target.join(std::ffi::OsStr::from_bytes(path));
        let mode = Permissions::from_mode(u32::from(inode.mode) & 0o777);
        let made = match inode.file_type {
            FileType::Directory => fs::create_dir(&place),
            FileType::Regular => File::create_new(&place).and_then(|mut file| {
                io::copy(
                    &mut Content {
                        reader,
                        inode,
                        at: 0,
                    },
                    &mut file,
                )?;
                file.set_permissions(mode)
            }),
            FileType::Symlink => {
                let link = reader.read_link(inode).map_err(io::Error::other);
                link.and_then(|link| symlink(std::ffi::OsStr::from_bytes(&link), &place))
            }
            _ => Ok(()),
        };
        made.map_err(|cause| CompareError::io("cannot unpack", &place, cause))?;
    }
    for name in ["dev", "proc", "sys", "tmp"] {
        let place = target.join(name);
        match fs::create_dir(&place) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CompareError::io("cannot make", place, cause));
            }
            _ => {}
        }
    }
    Ok(())
}
