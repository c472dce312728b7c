//! The holder's namespaces: a user namespace, in which it may do what networks need and
//! nowhere else, a mount namespace, and the network namespace that the networks are in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid, gettid};

/// Enters new user and mount namespaces. Only for a process with one thread.
pub fn enter() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(())
}

/// Enters a new network namespace with this thread and those that it starts.
pub fn enter_network() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for (name, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
    ] {
        fs::write(Path::new("/proc/sys/net").join(name), value)?;
    }
    // A host without IPv6 has no such file.
    match fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives this thread's network namespace a name under `directory`, which only this mount
/// namespace sees.
pub fn name_network(directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let none: Option<&str> = None;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), directory, Some("tmpfs"), flags, none)?;
    let name = directory.join("net");
    fs::File::create(&name)?;
    let own = format!("/proc/self/task/{}/ns/net", gettid());
    mount(Some(own.as_str()), &name, none, MsFlags::MS_BIND, none)?;
    Ok(name)
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that has stayed in the host's network namespace, for what has to be done there.
#[derive(Debug, Clone)]
pub struct Host {
    jobs: mpsc::Sender<Job>,
}

impl Host {
    /// Starts it; to be called before [`enter_network`].
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("host".to_owned())
            .spawn(move || queue.into_iter().for_each(|job| job()))?;
        Ok(Self { jobs })
    }

    /// Does something there and waits for it.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let gone = || io::Error::other("the thread in the host's network has ended");
        self.jobs
            .send(Box::new(move || {
                // Whoever asked waits below.
                let _ = answer.send(job());
            }))
            .map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}
