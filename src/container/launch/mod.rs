//! Starting a container: everything its supervisor needs is put together here, so that the
//! supervisor opens the machine at once.

mod base;
mod error;
mod machine;
mod spare;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{FrameKind, Start, Stdio as Streams, WindowSize};

pub(crate) use base::{Base, LAYERS, WRITABLE, base, writable};
pub use base::{GUESTS, kvm, try_kvm};
pub use error::{LaunchError, RestartError};
use machine::{machine, shares};
pub use spare::{SpareSupervisor, reap, supervisor_environment};

use super::control::{self, Attach, ControlError, ControlReply, LaunchPlan};
use super::descriptors;
use super::lifecycle;
use super::network::{self, LostLinks};
use super::record::Container;
use super::spec::container_spec;
use super::state::Status;
use crate::arch::platform::Platform;
use crate::events::Note;
use crate::image;
use crate::store::{Lock, Store};

/// A started container.
#[derive(Debug)]
pub struct Started {
    /// Carries the streams that were asked for.
    pub stream: UnixStream,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// What starting the machine took, if that was asked for.
    pub boot: Option<Box<vmm::BootTrace>>,
}

/// Starts `container` and waits until its first process runs.
pub fn start(
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
) -> Result<Started, LaunchError> {
    start_in(None, store, container, attach, window)
}

/// Stops a container as [`lifecycle::stop`] does and starts it again.
pub fn restart(
    store: &Store,
    container: &Container,
    signal: Option<&str>,
    timeout: Option<i64>,
) -> Result<(), RestartError> {
    if container.config.auto_remove {
        return Err(RestartError::AutoRemove(container.name.clone()));
    }
    lifecycle::stop(store, container, signal, timeout, true)?;
    // What the store has of it now: that it ended.
    let container = lifecycle::find(store, &container.id)?;
    start(store, &container, Attach::default(), None)?;
    store.note_container(&container.id, &[Note::new("restart")])?;
    Ok(())
}

/// [`start`] with a supervisor that stands already, if there is one.
pub fn start_in(
    supervisor: Option<SpareSupervisor>,
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
) -> Result<Started, LaunchError> {
    let supervisor = match supervisor {
        Some(supervisor) => supervisor,
        None => SpareSupervisor::obtain(store.paths(), &container.config)?,
    };
    let lock = take_lock(store, container)?;
    if container.state.status == Status::Dead {
        return Err(LaunchError::Dead(container.name.clone()));
    }
    let plan = plan(store, container, attach, window)?;
    let log = store
        .paths()
        .container_run_dir(&container.id)
        .join("supervisor.log");
    let log = File::create(log).map_err(LaunchError::Spawn)?;
    let mut ours = hand_over(supervisor, &lock, &log, &plan)?;
    drop(lock);
    match control::receive(&mut ours, FrameKind::Response)? {
        ControlReply::Ok { warnings, boot } => Ok(Started {
            stream: ours,
            warnings,
            boot,
        }),
        ControlReply::Error { code, message } => Err(LaunchError::Refused { code, message }),
    }
}

/// Gives a supervisor its container. One that has ended meanwhile, and cannot have begun with it, is
/// replaced once.
fn hand_over(
    supervisor: SpareSupervisor,
    lock: &File,
    log: &File,
    plan: &LaunchPlan,
) -> Result<UnixStream, LaunchError> {
    let give = |SpareSupervisor(mut ours): SpareSupervisor| {
        descriptors::send(&ours, &[lock.as_fd(), log.as_fd()]).map_err(ControlError::Io)?;
        control::send(&mut ours, FrameKind::Request, plan)?;
        Ok::<_, ControlError>(ours)
    };
    match give(supervisor) {
        Ok(ours) => Ok(ours),
        Err(_) => Ok(give(SpareSupervisor::spawn()?)?),
    }
}

/// Takes the lock of a container that does not run.
pub(super) fn take_lock(store: &Store, container: &Container) -> Result<File, LaunchError> {
    // Held while it runs, and for a moment while it ends.
    match store.wait_for_lock(&container.id)? {
        Lock::Taken(lock) => Ok(lock),
        Lock::Running => Err(LaunchError::AlreadyRunning(container.name.clone())),
        Lock::Stuck => Err(LaunchError::StillEnding(container.name.clone())),
        Lock::Gone => Err(LaunchError::Gone(container.name.clone())),
    }
}

/// Puts together everything that a supervisor needs.
pub(super) fn plan(
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
) -> Result<LaunchPlan, LaunchError> {
    let config = &container.config;
    let image =
        image::find(store, &config.image_id, None)?.ok_or_else(|| LaunchError::NoImage {
            name: container.name.clone(),
            image: config.image_id.clone(),
        })?;
    let platform: Platform = config.platform.parse()?;
    let Base {
        place,
        mut disks,
        mut storage,
    } = base(store, config, &platform, image.layer_files(store)?)?;
    let connected = network::connected(store, container, LostLinks::Refused)?;
    let path = store.ensure_writable_disk(container)?;
    disks.push(writable(path, !config.auto_remove));
    storage.shares = shares(&config.binds);
    storage.transient = config.auto_remove;
    let start = Start {
        storage,
        spec: container_spec(config)?,
        user: config.user.clone(),
        groups: config.groups.clone(),
        hardware: Vec::new(),
        network: connected.plan.guest_interfaces(),
        files: connected.files,
        sockets: Vec::new(),
        init: config.init,
        architecture: platform.architecture,
        stdio: Streams {
            stdin: config.open_stdin,
            terminal: config.tty.then(|| window.unwrap_or_default()),
        },
        clock_ns: 0,
        entropy: Vec::new(),
    };
    let mut machine = machine(store, container, place, disks)?;
    machine.interfaces = connected.plan.macs();
    machine.trace_boot = attach.trace_boot;
    machine.verbose = attach.console;
    Ok(LaunchPlan {
        container: container.clone(),
        machine,
        network: connected.plan,
        start: Box::new(start),
        attach,
    })
}
