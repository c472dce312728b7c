//! A container's run directory: the lock that says that it is alive, and its control socket.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Found, Paths, Store, StoreError};

/// Digits of an id that name a container's run directory; they keep socket paths short.
const RUN_DIGITS: usize = 24;

/// How often a lock's directory may be removed under its opener.
const LOCK_TRIES: u32 = 100;

/// How long a run that is ending may take until it lets go of the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_INTERVAL: Duration = Duration::from_millis(2);

/// What came of waiting for a container's lock.
#[derive(Debug)]
pub enum Lock {
    /// The caller has it now.
    Taken(File),
    /// The container runs.
    Running,
    /// Somebody holds it without running the container.
    Stuck,
    /// The container was removed.
    Gone,
}

/// The path of a control socket, kept short by an open directory.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _directory: File,
}

impl SocketPath {
    /// The socket `name` of a directory that is there.
    fn in_existing(directory: &Path, name: &str) -> io::Result<Self> {
        let opened = File::open(directory)?;
        // A socket's path has room for 107 bytes only.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
        Ok(Self {
            path,
            _directory: opened,
        })
    }

    /// The socket `name` of a directory that is made where it is missing.
    pub(super) fn in_created(directory: &Path, name: &str) -> Result<Self, StoreError> {
        make_directory(directory)?;
        Self::in_existing(directory, name)
            .map_err(|error| StoreError::io("open the directory", directory, error))
    }

    /// The path, valid while `self` is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Paths {
    /// What a running container has: lock, control socket, the supervisor's messages.
    pub fn container_run_dir(&self, id: &str) -> PathBuf {
        self.run
            .join("containers")
            .join(id.get(..RUN_DIGITS).unwrap_or(id))
    }
}

impl Paths {
    /// Where guests that wait for a container are found.
    pub fn standby_dir(&self) -> PathBuf {
        self.run.join("standby")
    }

    /// Where the one of this name listens, or would.
    pub fn standby_socket(&self, name: &str) -> Result<SocketPath, StoreError> {
        SocketPath::in_created(&self.standby_dir(), name)
    }

    /// The file whose lock says that there is one of this name.
    pub fn standby_lock(&self, name: &str) -> Result<File, StoreError> {
        let directory = self.standby_dir();
        make_directory(&directory)?;
        let path = directory.join(format!("{name}.lock"));
        open_lock(&path).map_err(|error| StoreError::io("open the lock", &path, error))
    }

    /// There is no longer; for whoever has the lock.
    pub fn remove_standby_lock(&self, name: &str) {
        // Nothing is wrong when it is gone already.
        let _ = fs::remove_file(self.standby_dir().join(format!("{name}.lock")));
    }
}

impl Store {
    /// Takes the lock that says a container is alive, for its supervisor to hold; none when
    /// somebody else has it.
    pub fn lock_container(&self, id: &str) -> Result<Option<File>, StoreError> {
        let directory = self.paths.container_run_dir(id);
        let path = directory.join("lock");
        let mut tries = 0;
        let file = loop {
            let made = private_directory(&directory).and_then(|()| open_lock(&path));
            match made {
                Ok(file) => break file,
                // Somebody else removes the directory, with the container, at this moment.
                Err(error) if is_of_a_race(&error) && tries < LOCK_TRIES => tries += 1,
                Err(error) => return Err(StoreError::io("open the lock", &path, error)),
            }
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("take the lock", &path, error)),
        }
    }

    /// Takes the lock of a container that does not run, waiting for a run that is just ending.
    pub fn wait_for_lock(&self, id: &str) -> Result<Lock, StoreError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(lock) = self.lock_container(id)? {
                // Whoever had it before may have removed the container.
                return Ok(match self.container_row(id)? {
                    Some(_) => Lock::Taken(lock),
                    None => {
                        remove_directory(&self.paths.container_run_dir(id))?;
                        Lock::Gone
                    }
                });
            }
            match self.find_container(id)? {
                Found::One(now) if now.state.status.is_live() => return Ok(Lock::Running),
                Found::None => return Ok(Lock::Gone),
                _ if Instant::now() > deadline => return Ok(Lock::Stuck),
                // There is no way to wait for a lock or a row, whichever changes first.
                _ => std::thread::sleep(LOCK_INTERVAL),
            }
        }
    }

    /// Where a container's control socket is or would be; none of one that never ran.
    pub fn control_socket(&self, id: &str) -> Result<Option<SocketPath>, StoreError> {
        let directory = self.paths.container_run_dir(id);
        match SocketPath::in_existing(&directory, "control") {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open the directory", &directory, error)),
        }
    }
}

pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    private_directory(path).map_err(|source| StoreError::io("create the directory", path, source))
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What a directory that comes and goes looks like to who makes it and opens a file in it.
fn is_of_a_race(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
    )
}

pub(super) fn remove_directory(path: &Path) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(path) {
            // Somebody else looks for the lock in it at this moment.
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < LOCK_TRIES =>
            {
                tries += 1;
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("delete the directory", path, error));
            }
            _ => return Ok(()),
        }
    }
}
