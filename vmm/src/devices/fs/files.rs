//! What a guest's kernel is told about shared files, and how long it may believe it.
//!
//! The requests themselves are fuse-backend-rs's `PassthroughFs`, which holds a descriptor for
//! each file that the guest knows. Descriptors are few, so here is also where a guest that
//! knows many files is made to forget some.

use std::ffi::CStr;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, stat64, statvfs64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, GetxattrReply, ListxattrReply, SetattrValid,
    ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::passthrough::PassthroughFs;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};

use super::attributes;

/// How long the guest may trust what it was told of a file's attributes and of a directory's
/// place. It is the least that a kernel can tell from nothing: until its next tick but one.
pub(super) const TRUST: Duration = Duration::from_nanos(1);

/// How many names are told between two looks at the number of descriptors.
const LOOK_EVERY: u32 = 32;

type Inode = <PassthroughFs as FileSystem>::Inode;
type Handle = <PassthroughFs as FileSystem>::Handle;

/// The files of a shared directory.
pub(super) struct Files {
    passthrough: PassthroughFs,
    /// From this descriptor on there are too many.
    enough: i32,
    crowded: AtomicBool,
    told: AtomicU32,
}

impl Files {
    /// Half of the descriptors that this process may have are for what the guest remembers,
    /// the rest for what it uses.
    pub(super) fn new(passthrough: PassthroughFs) -> io::Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(Self {
            passthrough,
            enough: i32::try_from(most / 2).unwrap_or(i32::MAX),
            crowded: AtomicBool::new(false),
            told: AtomicU32::new(0),
        })
    }

    /// What the guest is told of a name: nothing to remember when it remembers enough. A kernel
    /// that must not trust a name drops it with its last use.
    fn tell(&self, mut entry: Entry) -> Entry {
        if self
            .told
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOK_EVERY)
        {
            self.crowded.store(self.is_crowded(), Ordering::Relaxed);
        }
        if self.crowded.load(Ordering::Relaxed) {
            entry.entry_timeout = Duration::ZERO;
        }
        entry
    }

    /// The lowest free descriptor tells how many there are, unless many low ones became free;
    /// then there is room.
    fn is_crowded(&self) -> bool {
        let lowest = fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(0));
        match lowest {
            Ok(lowest) => {
                let _ = nix::unistd::close(lowest);
                lowest >= self.enough
            }
            Err(_) => true,
        }
    }
}

/// What a guest's kernel may do beyond what `PassthroughFs` says. Not among it: to keep writes
/// back, and to open files without a word.
fn agreed() -> FsOptions {
    // Requests of up to 1 MiB, several at a time.
    FsOptions::BIG_WRITES
        | FsOptions::MAX_PAGES
        | FsOptions::ASYNC_READ
        | FsOptions::ASYNC_DIO
        | FsOptions::PARALLEL_DIROPS
        // A file that has changed is read anew.
        | FsOptions::AUTO_INVAL_DATA
        | FsOptions::ATOMIC_O_TRUNC
}

fn forbidden() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

/// Methods that hand their arguments on.
macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, context: &Context, $($argument: $kind),*) -> $result {
            self.passthrough.$name(context, $($argument),*)
        })*
    };
}

/// Makes a file for whoever asks for it. An ordinary user's process can make files for itself only,
/// which is root to the guest.
fn make<T>(context: &Context, make: impl Fn(&Context) -> io::Result<T>) -> io::Result<T> {
    match make(context) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => make(&Context {
            uid: 0,
            gid: 0,
            ..*context
        }),
        made => made,
    }
}

/// Methods that make a file and tell the guest of its name.
macro_rules! made {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(fn $name(&self, context: &Context, $($argument: $kind),*) -> io::Result<Entry> {
            let entry = make(context, |context| self.passthrough.$name(context, $($argument),*))?;
            Ok(self.tell(entry))
        })*
    };
}

/// Methods that hand their arguments on and tell the guest of the name in the answer.
macro_rules! tell {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(fn $name(&self, context: &Context, $($argument: $kind),*) -> io::Result<Entry> {
            let entry = self.passthrough.$name(context, $($argument),*)?;
            Ok(self.tell(entry))
        })*
    };
}

impl FileSystem for Files {
    type Inode = Inode;
    type Handle = Handle;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        Ok(self.passthrough.init(capable)? | agreed())
    }

    fn destroy(&self) {
        self.passthrough.destroy();
    }

    fn create(
        &self,
        context: &Context,
        parent: Inode,
        name: &CStr,
        arguments: CreateIn,
    ) -> io::Result<(Entry, Option<Handle>, OpenOptions, Option<u32>)> {
        let (entry, handle, options, backing) = make(context, |context| {
            self.passthrough.create(context, parent, name, arguments)
        })?;
        Ok((self.tell(entry), handle, options, backing))
    }

    fn readdirplus(
        &self,
        context: &Context,
        inode: Inode,
        handle: Handle,
        size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.passthrough.readdirplus(
            context,
            inode,
            handle,
            size,
            offset,
            &mut |listed, entry| add_entry(listed, self.tell(entry)),
        )
    }

    fn setxattr(
        &self,
        context: &Context,
        inode: Inode,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> io::Result<()> {
        let host = attributes::on_host(name).ok_or_else(forbidden)?;
        let set = self
            .passthrough
            .setxattr(context, inode, &host, value, flags);
        set.or_else(|refused| {
            let (stat, _) = self.passthrough.getattr(context, inode, None)?;
            match attributes::dispensable(name, stat.st_mode, &refused) {
                true => Ok(()),
                false => Err(refused),
            }
        })
    }

    fn getxattr(
        &self,
        context: &Context,
        inode: Inode,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        let host = attributes::on_host(name);
        let host = host.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA))?;
        self.passthrough.getxattr(context, inode, &host, size)
    }

    fn listxattr(&self, context: &Context, inode: Inode, size: u32) -> io::Result<ListxattrReply> {
        // The host's names may be longer than there is room for the guest's.
        let listed = self
            .passthrough
            .listxattr(context, inode, attributes::MOST)?;
        let ListxattrReply::Names(listed) = listed else {
            return Ok(listed);
        };
        let names = attributes::in_guest(&listed);
        let length = u32::try_from(names.len()).unwrap_or(u32::MAX);
        match size {
            0 => Ok(ListxattrReply::Count(length)),
            _ if length > size => Err(io::Error::from_raw_os_error(libc::ERANGE)),
            _ => Ok(ListxattrReply::Names(names)),
        }
    }

    fn removexattr(&self, context: &Context, inode: Inode, name: &CStr) -> io::Result<()> {
        let host = attributes::on_host(name).ok_or_else(forbidden)?;
        self.passthrough.removexattr(context, inode, &host)
    }

    made! {
        symlink(target: &CStr, parent: Inode, name: &CStr);
        mknod(parent: Inode, name: &CStr, mode: u32, device: u32, mask: u32);
        mkdir(parent: Inode, name: &CStr, mode: u32, mask: u32);
    }

    tell! {
        lookup(parent: Inode, name: &CStr);
        link(inode: Inode, parent: Inode, name: &CStr);
    }

    forward! {
        forget(inode: Inode, count: u64) -> ();
        batch_forget(requests: Vec<(Inode, u64)>) -> ();
        getattr(inode: Inode, handle: Option<Handle>) -> io::Result<(stat64, Duration)>;
        setattr(inode: Inode, attributes: stat64, handle: Option<Handle>, valid: SetattrValid)
            -> io::Result<(stat64, Duration)>;
        readlink(inode: Inode) -> io::Result<Vec<u8>>;
        unlink(parent: Inode, name: &CStr) -> io::Result<()>;
        rmdir(parent: Inode, name: &CStr) -> io::Result<()>;
        rename(from: Inode, name: &CStr, to: Inode, new_name: &CStr, flags: u32)
            -> io::Result<()>;
        open(inode: Inode, flags: u32, fuse_flags: u32)
            -> io::Result<(Option<Handle>, OpenOptions, Option<u32>)>;
        read(inode: Inode, handle: Handle, to: &mut dyn ZeroCopyWriter, size: u32, offset: u64,
            lock_owner: Option<u64>, flags: u32) -> io::Result<usize>;
        write(inode: Inode, handle: Handle, from: &mut dyn ZeroCopyReader, size: u32,
            offset: u64, lock_owner: Option<u64>, delayed: bool, flags: u32, fuse_flags: u32)
            -> io::Result<usize>;
        flush(inode: Inode, handle: Handle, lock_owner: u64) -> io::Result<()>;
        fsync(inode: Inode, data_alone: bool, handle: Handle) -> io::Result<()>;
        fallocate(inode: Inode, handle: Handle, mode: u32, offset: u64, length: u64)
            -> io::Result<()>;
        release(inode: Inode, flags: u32, handle: Handle, flush: bool, flock_release: bool,
            lock_owner: Option<u64>) -> io::Result<()>;
        statfs(inode: Inode) -> io::Result<statvfs64>;
        opendir(inode: Inode, flags: u32) -> io::Result<(Option<Handle>, OpenOptions)>;
        readdir(inode: Inode, handle: Handle, size: u32, offset: u64,
            add_entry: &mut dyn FnMut(DirEntry) -> io::Result<usize>) -> io::Result<()>;
        fsyncdir(inode: Inode, data_alone: bool, handle: Handle) -> io::Result<()>;
        releasedir(inode: Inode, flags: u32, handle: Handle) -> io::Result<()>;
        access(inode: Inode, mask: u32) -> io::Result<()>;
        lseek(inode: Inode, handle: Handle, offset: u64, whence: u32) -> io::Result<u64>;
    }
}
