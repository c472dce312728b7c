//! The comparison itself: every place in turn, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use vmm::HostCalls;

use super::bundle::Profile;
use super::place::{Kind, Place, Setting, places};
use super::prepare::{WithProbe, unpack};
use super::probe::{self, ask};
use super::report::{Column, Figure, Report, Stage, sights, spread};
use super::timeline::timeline;
use super::{CompareError, memory, noise};
use crate::arch::Platform;
use crate::container::lifecycle;
use crate::image::Image;
use crate::settings::Settings;
use crate::store::Store;

/// What is compared, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the image was called.
    pub name: String,
    /// A command of the image to measure, too.
    pub command: Vec<String>,
    /// How often.
    pub runs: usize,
    /// Idle instances at once; none measures no memory.
    pub instances: usize,
    /// The columns that are wanted; all where there are none.
    pub only: Vec<String>,
}

/// A place where the program did run.
struct Ready<'a> {
    place: &'a Place,
    kind: Kind,
    setting: &'a Setting,
    values: BTreeMap<&'static str, Vec<f64>>,
    /// The parts of the way to the first instruction, in order, with what each took.
    parts: Vec<(String, Vec<f64>)>,
}

/// Compares; `told` hears what is being done.
pub fn compare(
    store: &Store,
    settings: &Settings,
    images: &[(Platform, Result<Image, String>)],
    options: &Options,
    told: &dyn Fn(&str),
) -> Result<Report, CompareError> {
    let platforms: Vec<&Platform> = images.iter().map(|(platform, _)| platform).collect();
    let Some(native) = platforms.first() else {
        return Err(CompareError::NoColumn(String::new(), String::new()));
    };
    let mut places = places(native, platforms.get(1).copied());
    choose(&mut places, &options.only)?;
    let before = noise::before();
    let work = store.temp_dir("compare")?;
    let (mut prepared, mut settled) = (Vec::new(), BTreeMap::new());
    for (number, (platform, image)) in images.iter().enumerate() {
        let wanted = places.iter().any(|place| place.platform == *platform);
        if let (true, Ok(image)) = (wanted, image) {
            told(&format!("unpacking {} for {platform}", options.name));
            let image = WithProbe::new(store, settings, image)?;
            let rootfs = work.path().join(format!("rootfs-{number}"));
            fs::create_dir(&rootfs)
                .map_err(|cause| CompareError::io("cannot make", &rootfs, cause))?;
            unpack(store, &image.image, &rootfs)?;
            let env = image.image.config.config().as_ref();
            let env = env
                .and_then(|config| config.env().clone())
                .unwrap_or_default();
            settled.insert(
                platform.to_string(),
                Setting {
                    rootfs,
                    work: work.path().to_owned(),
                    image: image.image.id.to_string(),
                    env,
                    profile: Profile::find(),
                },
            );
            prepared.push(image);
        }
    }
    for place in &mut places {
        let image = images
            .iter()
            .find(|(platform, _)| *platform == place.platform);
        if let Some((_, Err(error))) = image {
            place.why_not = Some(error.clone());
        }
    }

    let calls = host_calls();
    let host = on_host(settled.values().next())?;
    let mut columns = Vec::new();
    let mut ready: Vec<(usize, Ready<'_>)> = Vec::new();
    for place in &places {
        told(&format!("looking from {}", place.title));
        let mut column = Column {
            id: place.id.clone(),
            title: place.title.clone(),
            boundary: place.boundary.clone(),
            why_not: place.why_not.clone(),
            kernel: None,
            sights: Vec::new(),
            host_calls: None,
            timeline: Vec::new(),
            figures: Vec::new(),
        };
        let setting = settled.get(&place.platform.to_string());
        if let (None, Some(kind), Some(setting)) = (&place.why_not, &place.kind, setting) {
            match ask(place, kind, setting, "look")? {
                Err(refused) => column.why_not = Some(refused),
                Ok(seen) => {
                    column.kernel = seen["kernel"].as_str().map(str::to_owned);
                    column.sights = sights(&seen, &host);
                    column.host_calls = reach(kind, setting, calls.as_ref());
                    ready.push((
                        columns.len(),
                        Ready {
                            place,
                            kind: kind.clone(),
                            setting,
                            values: BTreeMap::new(),
                            parts: Vec::new(),
                        },
                    ));
                }
            }
        }
        columns.push(column);
    }
    for run in 0..options.runs {
        // Each time another one is first.
        if !ready.is_empty() {
            let first = run % ready.len();
            ready.rotate_left(usize::from(first > 0));
        }
        for (_, ready) in &mut ready {
            told(&format!(
                "run {} of {}: {}",
                run + 1,
                options.runs,
                ready.place.title
            ));
            ready.measure(&options.command)?;
        }
    }
    if options.instances > 0 {
        for (_, ready) in &mut ready {
            told(&format!(
                "{} idle instances: {}",
                options.instances, ready.place.title
            ));
            ready.idle(store, options.instances)?;
        }
    }
    for (at, ready) in ready {
        columns[at].timeline = ready.stages();
        columns[at].figures = Figure::all(|id| ready.values.get(id).cloned().unwrap_or_default());
    }
    drop(prepared);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Report {
        image: options.name.clone(),
        command: options.command.clone(),
        begun: jiff::Timestamp::now().to_string(),
        host: format!(
            "{}, {} processors, {}",
            host["kernel"].as_str().unwrap_or("unknown kernel"),
            processors,
            std::env::consts::ARCH,
        ),
        runs: options.runs,
        instances: options.instances,
        host_calls: calls.map(|names| names.len()),
        noise: noise::after(&before, &columns, processors),
        columns,
    })
}

fn choose(places: &mut Vec<Place>, only: &[String]) -> Result<(), CompareError> {
    for wanted in only {
        if !places.iter().any(|place| place.id == *wanted) {
            let known: Vec<&str> = places.iter().map(|place| place.id.as_str()).collect();
            return Err(CompareError::NoColumn(wanted.clone(), known.join(", ")));
        }
    }
    places.retain(|place| only.is_empty() || only.contains(&place.id));
    Ok(())
}

/// What the probe sees on the host, outside of everything.
fn on_host(setting: Option<&Setting>) -> Result<Value, CompareError> {
    let Some(setting) = setting else {
        return Ok(Value::Null);
    };
    let own = Platform::host();
    let file = super::prepare::probe_file(&own).unwrap_or_else(|_| setting.rootfs.clone());
    let output = Command::new(&file).arg("look").output();
    let output = output.map_err(|cause| CompareError::io("cannot run", &file, cause))?;
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// The names of the system calls that the host's kernel has, as its list of symbols has them.
fn host_calls() -> Option<BTreeSet<String>> {
    let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
    let names: BTreeSet<String> = symbols.lines().filter_map(call_name).collect();
    (names.len() > 100).then_some(names)
}

/// The system call of a kernel's function.
pub(super) fn call_name(line: &str) -> Option<String> {
    let symbol = line.split_whitespace().nth(2)?;
    let name = symbol
        .strip_prefix("__x64_sys_")
        .or_else(|| symbol.strip_prefix("__arm64_sys_"))?;
    let name = match name {
        "ni_syscall" => return None,
        "newstat" => "stat",
        "newlstat" => "lstat",
        "newfstat" => "fstat",
        "newuname" => "uname",
        "sendfile64" => "sendfile",
        "umount" => "umount2",
        other => other,
    };
    Some(name.to_owned())
}

/// How many of the host's system calls a sandbox can reach, and how that is known.
fn reach(
    kind: &Kind,
    setting: &Setting,
    host: Option<&BTreeSet<String>>,
) -> Option<(usize, String)> {
    let all = host?.len();
    Some(match kind {
        Kind::Process => (all, "no filter: all that the kernel has".to_owned()),
        Kind::Container(_) => match &setting.profile {
            None => (
                all,
                "no profile is installed: all that the kernel has".to_owned(),
            ),
            Some(profile) => {
                let count = host?.intersection(&profile.allowed).count();
                (count, format!("the profile {}", profile.file.display()))
            }
        },
        Kind::Machine(engine) => {
            let how =
                "the lists that confine the machine's processes; the guest's own go to its kernel"
                    .to_owned();
            match vmm::host_calls(*engine)? {
                HostCalls::Only(count) => (count, how),
                HostCalls::AllBut(count) => (all.saturating_sub(count), how),
            }
        }
    })
}

impl Ready<'_> {
    fn note(&mut self, id: &'static str, value: f64) {
        self.values.entry(id).or_default().push(value);
    }

    /// The parts of the way to the first instruction, each with its median.
    fn stages(&self) -> Vec<Stage> {
        let median = |(name, values): &(String, Vec<f64>)| {
            let (_, ms, _) = spread(values)?;
            let name = name.clone();
            Some(Stage { name, ms })
        };
        self.parts.iter().filter_map(median).collect()
    }

    /// One run of everything.
    fn measure(&mut self, command: &[String]) -> Result<(), CompareError> {
        let start = self
            .place
            .start(&self.kind, self.setting, &probe::probe("hello"), 0, false)?;
        if let Ok(done) = probe::run(start, true)? {
            self.note("first_ms", done.first_ms);
            self.note("whole_ms", done.whole_ms);
        }
        for (name, ms) in timeline(self.place, &self.kind, self.setting)? {
            match self.parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(ms),
                None => self.parts.push((name, vec![ms])),
            }
        }
        if !command.is_empty() {
            let start = self
                .place
                .start(&self.kind, self.setting, command, 0, false)?;
            if let Ok(done) = probe::run(start, false)? {
                self.note("command_ms", done.whole_ms);
            }
        }
        if let Ok(found) = ask(self.place, &self.kind, self.setting, "measure")? {
            for id in [
                "syscall_ns",
                "fork_exec_us",
                "cpu_ns",
                "file_write_mb_s",
                "file_read_mb_s",
                "network_mb_s",
            ] {
                if let Some(value) = found[id].as_f64() {
                    self.note(id, value);
                }
            }
        }
        Ok(())
    }

    /// The memory of instances that do nothing.
    fn idle(&mut self, store: &Store, count: usize) -> Result<(), CompareError> {
        let mut idle = Idle::default();
        let mut roots = Vec::new();
        for number in 1..=count {
            let root = match &self.kind {
                Kind::Machine(engine) => {
                    let mut command =
                        self.place
                            .machine(*engine, self.setting, &probe::probe("idle"), &["-d"]);
                    let output = command.stderr(Stdio::null()).output();
                    let output = output.map_err(|cause| {
                        CompareError::io("cannot run", command.get_program(), cause)
                    })?;
                    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    let supervisor = lifecycle::find(store, &id)
                        .ok()
                        .map(|container| container.state.supervisor);
                    idle.containers.push(id);
                    supervisor
                }
                kind => {
                    let mut start = self.place.start(
                        kind,
                        self.setting,
                        &probe::probe("idle"),
                        number,
                        false,
                    )?;
                    idle.cleaners.extend(start.clean.take());
                    idle.start(&mut start.command)?
                }
            };
            // One that did not come up is not counted.
            roots.extend(root.filter(|pid| *pid > 0));
        }
        for root in roots {
            self.note(
                "memory_mib",
                memory::of_tree(root) as f64 / f64::from(1 << 20),
            );
        }
        drop(idle);
        Ok(())
    }
}

/// Instances that wait; they end with this.
#[derive(Debug, Default)]
struct Idle {
    children: Vec<Child>,
    cleaners: Vec<Command>,
    containers: Vec<String>,
}

impl Idle {
    /// Starts one and waits until it runs.
    fn start(&mut self, command: &mut Command) -> Result<Option<i32>, CompareError> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child =
            child.map_err(|cause| CompareError::io("cannot run", command.get_program(), cause))?;
        let mut byte = [0];
        let spoke = child
            .stdout
            .as_mut()
            .is_some_and(|output| output.read(&mut byte).is_ok_and(|count| count > 0));
        let pid = i32::try_from(child.id()).ok();
        self.children.push(child);
        Ok(pid.filter(|_| spoke))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for cleaner in &mut self.cleaners {
            let _ = cleaner.status();
        }
        if !self.containers.is_empty() {
            let own = std::env::current_exe().unwrap_or_else(|_| "hull".into());
            let mut remove = Command::new(own);
            remove.args(["rm", "-f"]).args(&self.containers);
            let _ = remove.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
