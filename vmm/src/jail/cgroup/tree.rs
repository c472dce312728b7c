//! Where on this host groups can be made: the highest place of each hierarchy that the caller
//! may change and move processes through.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::LimitError;

/// The parent of all machines' groups.
const OURS: &str = "hull";

/// What a hierarchy can bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Memory,
    Processes,
    Cpuset,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Processes, Self::Cpuset];

    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Processes => "pids",
            Self::Cpuset => "cpuset",
        }
    }

    fn named(names: &str, separator: char) -> Vec<Self> {
        let has = |wanted: &Self| {
            names
                .split(separator)
                .any(|name| name.trim() == wanted.name())
        };
        Self::ALL.into_iter().filter(has).collect()
    }
}

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: u8,
    pub(super) controllers: Vec<Controller>,
    /// Where the parent of all machines' groups is, or will be.
    pub(super) base: PathBuf,
}

/// All hierarchies that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree(pub(super) Vec<Hierarchy>);

impl Tree {
    /// Look at this host with the eyes of this process.
    pub(super) fn find() -> Result<Self, LimitError> {
        let read = |path: &str| {
            fs::read_to_string(path)
                .map_err(|error| LimitError::Unavailable(format!("reading {path}: {error}")))
        };
        Self::of(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
    }

    fn of(mounts: &str, own: &str) -> Result<Self, LimitError> {
        let mut found: Vec<Hierarchy> = Vec::new();
        let mut refused = None;
        for mount in mounts.lines().filter_map(Mount::parse) {
            let Some(path) = mount.own_directory(own) else {
                continue;
            };
            let Some(top) = highest(&path, &mount.place) else {
                refused = Some(path);
                continue;
            };
            let mut controllers = match mount.version {
                1 => mount.controllers.clone(),
                _ => offered(&top),
            };
            let taken =
                |one: &Controller| found.iter().any(|other| other.controllers.contains(one));
            controllers.retain(|one| !taken(one));
            if !controllers.is_empty() {
                found.push(Hierarchy {
                    version: mount.version,
                    controllers,
                    base: top.join(OURS),
                });
            }
        }
        match (found.is_empty(), refused) {
            (false, _) => Ok(Self(found)),
            (true, Some(path)) => Err(LimitError::Unavailable(format!(
                "{} is not this user's to change",
                path.display()
            ))),
            (true, None) => Err(LimitError::Unavailable("there are none".to_owned())),
        }
    }

    /// Leave out what does nothing but choose processors.
    pub(super) fn forget_cpusets(&mut self) {
        let alone = |hierarchy: &Hierarchy| hierarchy.controllers == [Controller::Cpuset];
        self.0.retain(|hierarchy| !alone(hierarchy));
    }

    /// The first of what bounds the cost of a machine that is nowhere.
    pub(super) fn missing(&self) -> Option<&'static str> {
        let bounds = [Controller::Cpu, Controller::Memory, Controller::Processes];
        let there = |one: &Controller| self.0.iter().any(|all| all.controllers.contains(one));
        let missing = bounds.into_iter().find(|one| !there(one));
        missing.map(Controller::name)
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let each = self.0.iter().map(|hierarchy| {
            let names: Vec<&str> = hierarchy.controllers.iter().map(|one| one.name()).collect();
            let (version, base) = (hierarchy.version, hierarchy.base.display());
            format!("{} in {base} (version {version})", names.join(", "))
        });
        let mut text = each.collect::<Vec<_>>().join("; ");
        if let Some(missing) = self.missing() {
            text.push_str(&format!("; nothing bounds {missing}"));
        }
        text
    }
}

/// The controllers that groups below `top` can have, switched on.
fn offered(top: &Path) -> Vec<Controller> {
    let names = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    let mut there = Controller::named(&names, ' ');
    there.retain(|one| switch_on(top, *one));
    there
}

/// Let groups below a directory have a controller of version 2.
pub(super) fn switch_on(directory: &Path, controller: Controller) -> bool {
    let file = directory.join("cgroup.subtree_control");
    let on = fs::read_to_string(&file).unwrap_or_default();
    Controller::named(&on, ' ').contains(&controller)
        || fs::write(&file, format!("+{}", controller.name())).is_ok()
}

/// The highest directory from `own` up to `mount` that this process may change, as may all
/// between: a process is moved only by who may change what is above both groups.
fn highest(own: &Path, mount: &Path) -> Option<PathBuf> {
    let ours = |directory: &&Path| {
        directory.starts_with(mount)
            && access(*directory, AccessFlags::W_OK).is_ok()
            && access(&directory.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
    };
    own.ancestors().take_while(ours).last().map(Path::to_owned)
}

/// A mounted hierarchy.
#[derive(Debug)]
struct Mount {
    version: u8,
    controllers: Vec<Controller>,
    /// What of the hierarchy is mounted.
    root: PathBuf,
    place: PathBuf,
}

impl Mount {
    /// A line of `/proc/self/mountinfo`, if it is about control groups.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, place) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => return None,
        };
        let options = after.nth(1).unwrap_or_default();
        Some(Self {
            version,
            controllers: Controller::named(options, ','),
            root: PathBuf::from(root),
            place: PathBuf::from(place),
        })
    }

    /// Where this process is in it, from the lines of `/proc/self/cgroup`.
    fn own_directory(&self, own: &str) -> Option<PathBuf> {
        let path = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            let here = match self.version {
                1 => {
                    let first = self.controllers.first()?;
                    Controller::named(names, ',').contains(first)
                }
                _ => names.is_empty(),
            };
            here.then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(&self.root);
        // What is not below what is mounted cannot be reached.
        let below = below.ok().filter(|path| !path.starts_with(".."))?;
        // Without the slash at its end that an empty path leaves.
        let directory: PathBuf = self.place.join(below).components().collect();
        directory.is_dir().then_some(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_versions_are_understood() {
        let line =
            "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(
            (mount.version, mount.controllers),
            (1, vec![Controller::Cpu])
        );
        let line = "42 31 0:39 /docker/1 /cg rw shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.version, 2);
        assert_eq!(mount.root, Path::new("/docker/1"));
        assert!(Mount::parse("1 2 0:3 / /proc rw - proc proc rw").is_none());
        assert!(Mount::parse("nonsense").is_none());
    }

    #[test]
    fn the_highest_place_that_may_be_changed_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let own = place.path().join("slice/scope");
        fs::create_dir_all(&own).unwrap();
        for directory in [place.path(), &place.path().join("slice"), &own] {
            fs::write(directory.join("cgroup.procs"), "").unwrap();
        }
        let slice = place.path().join("slice");
        assert_eq!(highest(&own, &slice), Some(slice.clone()));
        assert_eq!(highest(&own, place.path()), Some(place.path().to_owned()));
        fs::remove_file(slice.join("cgroup.procs")).unwrap();
        assert_eq!(highest(&own, place.path()), Some(own.clone()));
        fs::remove_file(own.join("cgroup.procs")).unwrap();
        assert_eq!(highest(&own, place.path()), None);
    }

    #[test]
    fn a_hierarchy_is_found_through_its_mount() {
        let place = tempfile::tempdir().unwrap();
        let mounted = place.path().display().to_string();
        fs::create_dir(place.path().join("job")).unwrap();
        for directory in [place.path().to_owned(), place.path().join("job")] {
            fs::write(directory.join("cgroup.procs"), "").unwrap();
            fs::write(directory.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
            fs::write(directory.join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        }
        let mounts = format!("1 2 0:3 / {mounted} rw - cgroup2 none rw\n");
        let tree = Tree::of(&mounts, "0::/job\n").unwrap();
        let [hierarchy] = tree.0.as_slice() else {
            panic!("{tree:?}");
        };
        assert_eq!(hierarchy.base, place.path().join("hull"));
        assert_eq!(hierarchy.version, 2);
        let wanted = [Controller::Cpu, Controller::Memory, Controller::Processes];
        assert_eq!(hierarchy.controllers, wanted);
        assert_eq!(tree.missing(), None);
        let mut less = tree.clone();
        less.0[0].controllers = vec![Controller::Processes];
        assert_eq!(less.missing(), Some("cpu"));
        assert!(less.describe().ends_with("nothing bounds cpu"));
        let missing = Tree::of(&mounts, "0::/elsewhere\n").unwrap_err();
        assert!(matches!(missing, LimitError::Unavailable(_)));
        let outside = Tree::of(&mounts, "0::/../other\n").unwrap_err();
        assert!(matches!(outside, LimitError::Unavailable(_)));
        assert!(Tree::of("", "").is_err());
    }
}
