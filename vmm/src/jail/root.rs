//! The root directory of a machine: a small file system in memory, and nothing else.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::{JailError, Step};

/// Where the root is put together: a directory that every Linux system has.
const BASE: &str = "/tmp";

/// Something that the root contains.
#[derive(Debug)]
pub(crate) enum RootFile<'a> {
    /// A file system in memory of its own, which stays writable, and its size.
    Scratch(&'static str, u64),
    /// A read-only copy of a file, from where the file stands.
    Copy(&'static str, File),
    /// A read-only file with these bytes.
    Bytes(&'static str, &'a [u8]),
    /// The host's directory at the same place, if it has one, read-only.
    ReadOnly(&'static str),
    /// A file or directory of the host, with everything that is mounted in it.
    Tree {
        /// The file or directory, opened in this mount namespace.
        source: File,
        /// Where it shall be.
        target: PathBuf,
        /// Whether the host's kernel refuses every change through this mount.
        read_only: bool,
    },
    /// This process's descriptors, where programs look for them (`/proc/self/fd`), and
    /// nothing else of `/proc`.
    OwnDescriptors,
    /// The host's device node at the same place.
    Device(&'static str),
}

/// A root directory in the making.
#[derive(Debug)]
pub(crate) struct Root;

impl Root {
    /// Make it, in a mount namespace of the caller's own. It holds up to `size` bytes.
    pub(crate) fn new(size: u64) -> Result<Self, JailError> {
        // Nothing that happens here may reach the host's mounts.
        let none: Option<&str> = None;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(none, "/", none, private, none).step("separate the machine's mounts")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = format!("size={size},nr_inodes=4096,mode=0755");
        mount(
            Some("hull"),
            BASE,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .step("mount the machine's root directory")?;
        Ok(Self)
    }

    /// Put something into it.
    pub(crate) fn add(&self, file: RootFile<'_>) -> Result<(), JailError> {
        let step = "fill the machine's root directory";
        match file {
            RootFile::Scratch(path, size) => {
                let target = inside(path);
                fs::create_dir_all(&target).step(step)?;
                tmpfs(&target, size, "").step(step)
            }
            RootFile::Copy(path, mut source) => {
                let mut target = create(path).step(step)?;
                // Between two files the kernel does the copying.
                io::copy(&mut source, &mut target).map(drop).step(step)
            }
            RootFile::Bytes(path, bytes) => create(path)
                .and_then(|mut target| target.write_all(bytes))
                .step(step),
            RootFile::ReadOnly(path) => {
                // Not every host has each of them.
                let Ok(kind) = fs::metadata(path) else {
                    return Ok(());
                };
                let target = inside(path);
                make_target(&target, kind.is_dir()).step(step)?;
                bind(Path::new(path), &target).step(step)?;
                restrict_tree(&target, true).step(step)
            }
            RootFile::Tree {
                source,
                target,
                read_only,
            } => {
                let target = inside(target);
                let directory = source.metadata().step(step)?.is_dir();
                make_target(&target, directory).step(step)?;
                let source = format!("/proc/self/fd/{}", source.as_raw_fd());
                bind(Path::new(&source), &target).step("mount a shared directory")?;
                restrict_tree(&target, read_only).step("restrict a shared directory")
            }
            RootFile::OwnDescriptors => {
                let path = "/proc/self/fd";
                let target = inside(path);
                make_target(&target, true).step(step)?;
                bind(Path::new(path), &target).step(step)?;
                restrict_tree(&target, true).step(step)
            }
            RootFile::Device(path) => {
                let target = inside(path);
                make_target(&target, false).step(step)?;
                bind(Path::new(path), &target).step(step)
            }
        }
    }

    /// Make a file for a guest's memory, which has no name anywhere. It is in huge pages where
    /// the host has them: a touched page of such a file costs a tenth of another's.
    pub(crate) fn memory(&self, size: u64) -> Result<File, JailError> {
        let step = "make the guest's memory";
        // Its file system is there only until the file is open.
        let place = inside("/memory");
        fs::create_dir(&place).step(step)?;
        tmpfs(&place, size, ",huge=within_size")
            .or_else(|_| tmpfs(&place, size, ""))
            .step(step)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(&place)
            .step(step)?;
        umount2(&place, MntFlags::MNT_DETACH).step(step)?;
        fs::remove_dir(&place).step(step)?;
        file.set_len(size).step(step)?;
        Ok(file)
    }

    /// Make it the root directory of this process, with the host's gone.
    pub(crate) fn enter(self) -> Result<(), JailError> {
        let step = "enter the machine's root directory";
        chdir(BASE).step(step)?;
        // Puts the old root on top of the new one, from where it is taken away.
        pivot_root(".", ".").step(step)?;
        umount2(".", MntFlags::MNT_DETACH).step(step)?;
        chdir("/").step(step)
    }

    /// Let nobody change the root directory of this process any more.
    pub(crate) fn freeze() -> Result<(), JailError> {
        let root = Path::new("/");
        restrict(root, true, 0).step("make the machine's root directory read-only")
    }
}

fn tmpfs(target: &Path, size: u64, more: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("size={size},nr_inodes=4096,mode=0755{more}");
    mount(
        Some("hull"),
        target,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
}

fn inside(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(BASE).join(path.strip_prefix("/").unwrap_or(path))
}

/// A new file that can only be read once it is closed.
fn create(path: &str) -> io::Result<File> {
    let target = inside(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(target)
}

fn make_target(target: &Path, directory: bool) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if directory {
        fs::create_dir_all(target)
    } else {
        File::create(target).map(drop)
    }
}

fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(
        Some(source),
        target,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )
}

/// Change the flags of a mount and of everything mounted in it.
fn restrict_tree(target: &Path, read_only: bool) -> io::Result<()> {
    restrict(target, read_only, libc::AT_RECURSIVE)
}

/// Make a mount harmless, and read-only if wanted.
fn restrict(target: &Path, read_only: bool, flags: libc::c_int) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and `change` has the size that is given; both outlive
    // the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
