//! One machine's group in every hierarchy: making it, filling it, changing and removing it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::LimitError;
use super::tree::{Controller, Hierarchy, Tree, switch_on};
use crate::limits::Bounds;

/// How often a group may be swept away under its maker before it has a process.
const TRIES: u32 = 20;

/// The most groups of one name at once, as of machines that build.
const NAMES: u32 = 1000;

/// How often, and after which pauses, a group whose processes have just ended is tried again:
/// the kernel tells of their end a moment before it has let go of the group.
const REMOVALS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Where processors cannot be chosen while the machine runs.
const NO_CPUSET: &str = "it was started where every processor may run it";

/// A group's directory in each hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    places: Vec<Place>,
    /// What does not work in a hierarchy; the others hold all the same.
    lacking: Option<LimitError>,
}

#[derive(Debug)]
struct Place {
    hierarchy: Hierarchy,
    directory: PathBuf,
}

impl Group {
    /// Make a group and put a process and all that come from it there.
    pub(super) fn around(
        tree: &Tree,
        name: &str,
        process: i32,
        bounds: &Bounds,
    ) -> Result<Self, LimitError> {
        sweep(tree);
        let mut group = Self {
            places: Vec::new(),
            lacking: None,
        };
        for hierarchy in &tree.0 {
            match around_in(hierarchy, name, process, bounds) {
                Ok(place) => group.places.push(place),
                Err(error) => group.lacking = Some(error),
            }
        }
        if let (None, Some(missing)) = (&group.lacking, tree.missing()) {
            let text = format!("the groups that this user may make do not bound {missing}");
            group.lacking = Some(LimitError::Failed(text));
        }
        match group.lacking.take() {
            Some(error) if group.places.is_empty() => Err(error),
            lacking => Ok(Self { lacking, ..group }),
        }
    }

    /// Try to make a group in every hierarchy and to bound it.
    pub(super) fn probe(tree: &Tree, bounds: &Bounds) -> Result<(), LimitError> {
        tree.0.iter().try_for_each(|hierarchy| {
            let place = make(hierarchy, "probe")?;
            let set = place.set(bounds);
            place.remove();
            set
        })
    }

    /// What of the bounds does not hold.
    pub(crate) fn lacking(&self) -> Option<&LimitError> {
        self.lacking.as_ref()
    }

    /// Set the bounds anew.
    pub(crate) fn set(&self, bounds: &Bounds) -> Result<(), LimitError> {
        let has = |place: &Place| place.hierarchy.controllers.contains(&Controller::Cpuset);
        let chooses = bounds.cpus.is_some() || bounds.memory_nodes.is_some();
        if chooses && !self.places.iter().any(has) {
            return Err(LimitError::Failed(NO_CPUSET.to_owned()));
        }
        self.places.iter().try_for_each(|place| place.set(bounds))
    }

    /// Whether the host's kernel has killed one of its processes for lack of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.places.iter().any(|place| {
            let file = match place.hierarchy.version {
                1 => "memory.oom_control",
                _ => "memory.events",
            };
            let text = fs::read_to_string(place.directory.join(file)).unwrap_or_default();
            let mut counts = text
                .lines()
                .filter_map(|line| line.strip_prefix("oom_kill "));
            counts.any(|count| count.trim() != "0")
        })
    }

    /// Remove it; its processes have ended.
    pub(crate) fn remove(&mut self) {
        for place in self.places.drain(..) {
            place.remove();
        }
    }
}

impl Place {
    fn set(&self, bounds: &Bounds) -> Result<(), LimitError> {
        for (file, value) in settings(&self.hierarchy, bounds) {
            let path = self.directory.join(file);
            let what = || format!("writing {value} to");
            fs::write(&path, &value).map_err(|error| LimitError::io(&what(), &path, &error))?;
        }
        Ok(())
    }

    fn remove(self) {
        let mut tries = 0;
        while let Err(error) = fs::remove_dir(&self.directory) {
            if error.kind() != ErrorKind::ResourceBusy || tries == REMOVALS {
                break;
            }
            tries += 1;
            std::thread::sleep(PAUSE);
        }
        // Only when no other machine has a group there.
        let _ = fs::remove_dir(&self.hierarchy.base);
    }
}

fn around_in(
    hierarchy: &Hierarchy,
    name: &str,
    process: i32,
    bounds: &Bounds,
) -> Result<Place, LimitError> {
    let mut tries = 0;
    loop {
        let place = make(hierarchy, name)?;
        let filled = place
            .set(bounds)
            .and_then(|()| fill(&place.directory, process));
        match filled {
            Ok(()) => return Ok(place),
            // Another machine's creator took it for a leftover.
            Err(_) if !place.directory.exists() && tries < TRIES => tries += 1,
            Err(error) => {
                place.remove();
                return Err(error);
            }
        }
    }
}

/// Make a group without processes.
fn make(hierarchy: &Hierarchy, name: &str) -> Result<Place, LimitError> {
    let directory = make_directory(hierarchy, name)
        .map_err(|error| LimitError::io("making a group in", &hierarchy.base, &error))?;
    Ok(Place {
        hierarchy: hierarchy.clone(),
        directory,
    })
}

/// Make `base/name`, or `base/name-2` where a run before has not quite ended.
fn make_directory(hierarchy: &Hierarchy, name: &str) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let directory = match number {
            1 => hierarchy.base.join(name),
            number => hierarchy.base.join(format!("{name}-{number}")),
        };
        let made = make_base(hierarchy)
            .and_then(|()| fs::create_dir(&directory))
            .and_then(|()| inherit(hierarchy, &directory));
        match made {
            Ok(()) => return Ok(directory),
            // Another's, or the last machine that left took the parent along.
            Err(error) if is_of_a_race(&error) && number < NAMES => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn is_of_a_race(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists)
}

/// Make the parent of all machines' groups where it is not there.
fn make_base(hierarchy: &Hierarchy) -> io::Result<()> {
    match fs::create_dir(&hierarchy.base) {
        Ok(()) => inherit(hierarchy, &hierarchy.base)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if hierarchy.version == 2 {
        for controller in &hierarchy.controllers {
            switch_on(&hierarchy.base, *controller);
        }
    }
    Ok(())
}

/// In version 1 a new group may use no processor and no memory until that is said.
fn inherit(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    if hierarchy.version != 1 || !hierarchy.controllers.contains(&Controller::Cpuset) {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(directory);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fs::write(directory.join(file), fs::read(above.join(file))?)?;
    }
    Ok(())
}

/// The files of a group that bound it.
fn settings(hierarchy: &Hierarchy, bounds: &Bounds) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    for controller in &hierarchy.controllers {
        match (controller, hierarchy.version) {
            (Controller::Memory, 1) => {
                files.push(("memory.limit_in_bytes", bounds.memory.to_string()));
            }
            (Controller::Memory, _) => {
                files.push(("memory.max", bounds.memory.to_string()));
                // A machine without one of its processes is none.
                files.push(("memory.oom.group", "1".to_owned()));
            }
            (Controller::Processes, _) => files.push(("pids.max", bounds.processes.to_string())),
            (Controller::Cpu, 1) => {
                let quota = bounds.quota;
                files.push(("cpu.cfs_period_us", quota.period_us.to_string()));
                files.push(("cpu.cfs_quota_us", quota.quota_us.to_string()));
                files.extend(bounds.shares.map(|n| ("cpu.shares", n.to_string())));
            }
            (Controller::Cpu, _) => {
                let quota = bounds.quota;
                let line = format!("{} {}", quota.quota_us, quota.period_us);
                files.push(("cpu.max", line));
                files.extend(bounds.shares.map(|n| ("cpu.weight", weight(n).to_string())));
            }
            (Controller::Cpuset, _) => {
                files.extend(bounds.cpus.clone().map(|list| ("cpuset.cpus", list)));
                files.extend(
                    bounds
                        .memory_nodes
                        .clone()
                        .map(|list| ("cpuset.mems", list)),
                );
            }
        }
    }
    files
}

/// Shares of version 1, from 2 to 262144, as a weight of version 2, from 1 to 10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Move a process, then those that came from it before; what comes from them later is in the
/// group already. A process that has ended meanwhile needs no group.
fn fill(group: &Path, process: i32) -> Result<(), LimitError> {
    let file = group.join("cgroup.procs");
    // Twice: one whose parent ended between two looks has another parent then.
    for _ in 0..2 {
        let mut waiting = vec![process];
        while let Some(pid) = waiting.pop() {
            match fs::write(&file, pid.to_string()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
                Err(error) => return Err(LimitError::io("moving a process to", &file, &error)),
            }
            waiting.extend(children(pid));
        }
    }
    Ok(())
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads.flatten().map(|thread| {
        let list = fs::read_to_string(thread.path().join("children"));
        list.unwrap_or_default()
    });
    let parse = |list: String| {
        let numbers = list.split_whitespace().map(str::parse);
        numbers.filter_map(Result::ok).collect::<Vec<i32>>()
    };
    lists.flat_map(parse).collect()
}

/// Remove what a machine of that name has left, if its processes end in time.
pub(super) fn remove_named(tree: &Tree, name: &str) {
    for hierarchy in &tree.0 {
        let place = Place {
            directory: hierarchy.base.join(name),
            hierarchy: hierarchy.clone(),
        };
        place.remove();
    }
}

/// Remove every group without processes.
pub(super) fn sweep(tree: &Tree) {
    for hierarchy in &tree.0 {
        let Ok(entries) = fs::read_dir(&hierarchy.base) else {
            continue;
        };
        let directories = entries.flatten().filter(|entry| {
            let kind = entry.file_type();
            kind.is_ok_and(|kind| kind.is_dir())
        });
        for group in directories {
            // Refused as long as a process is in it.
            let _ = fs::remove_dir(group.path());
        }
        let _ = fs::remove_dir(&hierarchy.base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CpuQuota, MOST_PROCESSES};

    fn hierarchy(version: u8) -> Hierarchy {
        Hierarchy {
            version,
            controllers: vec![
                Controller::Cpu,
                Controller::Memory,
                Controller::Processes,
                Controller::Cpuset,
            ],
            base: PathBuf::from("/nowhere"),
        }
    }

    #[test]
    fn bounds_are_written_as_each_version_wants_them() {
        let bounds = Bounds {
            memory: 1 << 30,
            processes: MOST_PROCESSES,
            quota: CpuQuota::of_billionths(1_500_000_000),
            shares: Some(1024),
            cpus: Some("0-1".to_owned()),
            memory_nodes: None,
        };
        let first = settings(&hierarchy(1), &bounds);
        assert!(first.contains(&("cpu.cfs_quota_us", "150000".to_owned())));
        assert!(first.contains(&("cpu.shares", "1024".to_owned())));
        assert!(first.contains(&("cpuset.cpus", "0-1".to_owned())));
        let second = settings(&hierarchy(2), &bounds);
        assert!(second.contains(&("cpu.max", "150000 100000".to_owned())));
        assert!(second.contains(&("cpu.weight", "39".to_owned())));
        assert!(second.contains(&("pids.max", MOST_PROCESSES.to_string())));
        assert!(second.contains(&("memory.max", (1_u64 << 30).to_string())));
    }

    #[test]
    fn weights_span_the_whole_range() {
        assert_eq!((weight(0), weight(2), weight(262_144)), (1, 1, 10_000));
        assert_eq!(weight(u64::MAX), 10_000);
    }
}
