//! What starting a machine costs: counted from the launch message until the agent is ready.
//!
//! A process is one machine, so there is one trace, and it exists only if it was asked for:
//! without it nothing is counted and no clock is read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a machine did until its agent was ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTrace {
    /// What happened when, in order.
    pub steps: Vec<BootStep>,
    /// How often a CPU stopped running the guest, by cause; empty where the guest's kernel is
    /// a process.
    pub exits: Vec<(String, u64)>,
    /// What the guest did with registers of devices.
    pub registers: Vec<RegisterUse>,
    /// How often a device was served.
    pub events: Vec<(String, u64)>,
    /// Bytes that were copied, and where.
    pub copied: Vec<(String, u64)>,
    /// Processor time of the machine's own work, in nanoseconds.
    pub own: Vec<(String, u64)>,
    /// Processor time in KVM's request to run a CPU, in nanoseconds.
    pub running_ns: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStep {
    /// Since the launch message came.
    pub after_us: u64,
    /// What it was.
    pub what: String,
}

/// How often one register of a device was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterUse {
    /// The device.
    pub device: String,
    /// The register.
    pub register: String,
    /// How often it was read.
    pub reads: u64,
    /// How often it was written.
    pub writes: u64,
}

/// Why a CPU stopped running the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    DeviceRead,
    DeviceWrite,
    PortRead,
    PortWrite,
    Other,
}

const EXITS: [(Exit, &str); 5] = [
    (Exit::DeviceRead, "device read"),
    (Exit::DeviceWrite, "device write"),
    (Exit::PortRead, "port read"),
    (Exit::PortWrite, "port write"),
    (Exit::Other, "other"),
];

/// Registers that are told apart, and one for the configuration space.
const REGISTERS: usize = 65;

#[derive(Debug, Default)]
struct Device {
    name: String,
    events: u64,
    reads: Vec<u64>,
    writes: Vec<u64>,
}

impl Device {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            events: 0,
            reads: vec![0; REGISTERS],
            writes: vec![0; REGISTERS],
        }
    }
}

/// The trace in the making.
#[derive(Debug)]
pub(crate) struct Tracer {
    begun: Instant,
    /// The main thread's processor time when it began, and when the guest did.
    base_ns: u64,
    set_up_ns: AtomicU64,
    exits: [AtomicU64; EXITS.len()],
    loaded: AtomicU64,
    from_guest: AtomicU64,
    to_guest: AtomicU64,
    outside_ns: AtomicU64,
    running_ns: AtomicU64,
    steps: Mutex<Vec<BootStep>>,
    devices: Mutex<Vec<Device>>,
    ports: Mutex<BTreeMap<u16, (u64, u64)>>,
}

static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Begin to count.
pub(crate) fn begin() {
    let tracer = TRACER.get_or_init(Tracer::new);
    tracer.step("the machine's description is there");
}

/// The trace, if one was asked for.
pub(crate) fn get() -> Option<&'static Tracer> {
    TRACER.get()
}

/// This thread's processor time.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    let time = time.map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Tracer {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            base_ns: thread_ns(),
            set_up_ns: AtomicU64::new(0),
            exits: Default::default(),
            loaded: AtomicU64::new(0),
            from_guest: AtomicU64::new(0),
            to_guest: AtomicU64::new(0),
            outside_ns: AtomicU64::new(0),
            running_ns: AtomicU64::new(0),
            steps: Mutex::default(),
            devices: Mutex::default(),
            ports: Mutex::default(),
        }
    }

    /// Something happens now.
    pub(crate) fn step(&self, what: impl Into<String>) {
        let after = self.begun.elapsed().as_micros();
        let step = BootStep {
            after_us: u64::try_from(after).unwrap_or(u64::MAX),
            what: what.into(),
        };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(step);
    }

    /// The machine has these devices, in their order.
    pub(crate) fn devices(&self, names: impl Iterator<Item = String>) {
        let named = names.map(|name| Device::new(&name)).collect();
        *self.device_list() = named;
    }

    fn device_list(&self) -> std::sync::MutexGuard<'_, Vec<Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main thread has done everything that comes before the guest.
    pub(crate) fn guest_begins(&self) {
        let used = thread_ns().saturating_sub(self.base_ns);
        self.set_up_ns.store(used, Ordering::Relaxed);
        self.step("the guest begins");
    }

    /// A CPU's thread, as it goes to run the guest and comes back.
    pub(crate) fn cpu(&'static self) -> CpuClock {
        CpuClock {
            tracer: self,
            last_ns: 0,
        }
    }

    /// A CPU stopped.
    pub(crate) fn exit(&self, exit: Exit) {
        for (count, (kind, _)) in self.exits.iter().zip(EXITS) {
            if kind == exit {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The guest used a register.
    pub(crate) fn register(&self, device: usize, at: u64, write: bool) {
        let mut devices = self.device_list();
        let Some(device) = devices.get_mut(device) else {
            return;
        };
        let counts = if write {
            &mut device.writes
        } else {
            &mut device.reads
        };
        let index = usize::try_from(at / 4).unwrap_or(REGISTERS);
        if let Some(count) = counts.get_mut(index.min(REGISTERS - 1)) {
            *count += 1;
        }
    }

    /// The guest used an input or output port.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn port(&self, port: u16, write: bool) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let (reads, writes) = ports.entry(port).or_default();
        *(if write { writes } else { reads }) += 1;
    }

    /// A device is served.
    pub(crate) fn event(&self, device: usize) {
        if let Some(device) = self.device_list().get_mut(device) {
            device.events += 1;
        }
    }

    /// Bytes were put into the guest's memory before it began.
    pub(crate) fn loaded(&self, bytes: u64) {
        self.loaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A device reads so many bytes of the guest's memory.
    pub(crate) fn read_from_guest(&self, bytes: usize) {
        self.from_guest.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A device wrote so many bytes of the guest's memory.
    pub(crate) fn written_to_guest(&self, bytes: u32) {
        self.to_guest.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    /// Everything up to now. To be asked by the main thread.
    pub(crate) fn report(&self) -> BootTrace {
        let main_ns = thread_ns().saturating_sub(self.base_ns);
        self.step("the agent is ready");
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let named = |name: &str, value| (name.to_owned(), value);
        let set_up_ns = get(&self.set_up_ns);
        let devices = self.device_list();
        let mut registers = Vec::new();
        for device in devices.iter() {
            for (index, (reads, writes)) in device.reads.iter().zip(&device.writes).enumerate() {
                if reads + writes > 0 {
                    registers.push(RegisterUse {
                        device: device.name.clone(),
                        register: register_name(index),
                        reads: *reads,
                        writes: *writes,
                    });
                }
            }
        }
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        registers.extend(ports.iter().map(|(port, (reads, writes))| RegisterUse {
            device: "port".to_owned(),
            register: format!("{port:#x}"),
            reads: *reads,
            writes: *writes,
        }));
        let events = devices
            .iter()
            .map(|device| named(&device.name, device.events));
        let exits = self.exits.iter().zip(EXITS);
        let exits: Vec<_> = exits
            .map(|(count, (_, name))| named(name, get(count)))
            .collect();
        let running_ns = get(&self.running_ns);
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        BootTrace {
            steps: steps.clone(),
            exits: if running_ns == 0 { Vec::new() } else { exits },
            registers,
            events: events.collect(),
            copied: vec![
                named("kernel and initramfs", get(&self.loaded)),
                named("devices to the guest", get(&self.to_guest)),
                named("the guest to devices", get(&self.from_guest)),
            ],
            own: vec![
                named("set-up", set_up_ns),
                named("CPU threads outside of KVM_RUN", get(&self.outside_ns)),
                named("devices", main_ns.saturating_sub(set_up_ns)),
            ],
            running_ns,
        }
    }
}

/// The processor time of one CPU's thread.
#[derive(Debug)]
pub(crate) struct CpuClock {
    tracer: &'static Tracer,
    last_ns: u64,
}

impl CpuClock {
    fn lap(&mut self, sum: &AtomicU64) {
        let now = thread_ns();
        sum.fetch_add(now.saturating_sub(self.last_ns), Ordering::Relaxed);
        self.last_ns = now;
    }

    /// The thread goes to run the guest.
    pub(crate) fn enter(&mut self) {
        self.lap(&self.tracer.outside_ns);
    }

    /// It is back.
    pub(crate) fn leave(&mut self) {
        self.lap(&self.tracer.running_ns);
    }
}

/// What the standard calls a register.
fn register_name(index: usize) -> String {
    let name = match index * 4 {
        0x000 => "MagicValue",
        0x004 => "Version",
        0x008 => "DeviceID",
        0x00c => "VendorID",
        0x010 => "DeviceFeatures",
        0x014 => "DeviceFeaturesSel",
        0x020 => "DriverFeatures",
        0x024 => "DriverFeaturesSel",
        0x030 => "QueueSel",
        0x034 => "QueueNumMax",
        0x038 => "QueueNum",
        0x044 => "QueueReady",
        0x050 => "QueueNotify",
        0x060 => "InterruptStatus",
        0x064 => "InterruptACK",
        0x070 => "Status",
        0x080 => "QueueDescLow",
        0x084 => "QueueDescHigh",
        0x090 => "QueueDriverLow",
        0x094 => "QueueDriverHigh",
        0x0a0 => "QueueDeviceLow",
        0x0a4 => "QueueDeviceHigh",
        0x0ac => "SHMSel",
        0x0b0 => "SHMLenLow",
        0x0b4 => "SHMLenHigh",
        0x0b8 => "SHMBaseLow",
        0x0bc => "SHMBaseHigh",
        0x0c0 => "QueueReset",
        0x0fc => "ConfigGeneration",
        0x100 => "Config",
        other => return format!("{other:#05x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_reported() {
        let tracer: &'static Tracer = Box::leak(Box::new(Tracer::new()));
        tracer.devices(["vsock", "block"].map(str::to_owned).into_iter());
        tracer.guest_begins();
        let mut clock = tracer.cpu();
        clock.enter();
        clock.leave();
        tracer.exit(Exit::DeviceRead);
        tracer.exit(Exit::PortWrite);
        tracer.register(1, 0x70, false);
        tracer.register(1, 0x70, true);
        tracer.register(1, 0x70, true);
        tracer.register(0, 0x123, false);
        tracer.register(7, 0x70, true);
        tracer.event(1);
        tracer.loaded(10);
        tracer.written_to_guest(20);
        tracer.read_from_guest(30);
        let report = tracer.report();
        let steps: Vec<_> = report.steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(steps, ["the guest begins", "the agent is ready"]);
        assert_eq!(report.exits.iter().map(|exit| exit.1).sum::<u64>(), 2);
        let uses: Vec<_> = report
            .registers
            .iter()
            .map(|r| (r.device.as_str(), r.register.as_str(), r.reads, r.writes))
            .collect();
        let expected = [("vsock", "Config", 1, 0), ("block", "Status", 1, 2)];
        assert_eq!(uses, expected);
        assert_eq!(report.events[1], ("block".to_owned(), 1));
        let copied: Vec<_> = report.copied.iter().map(|copied| copied.1).collect();
        assert_eq!(copied, [10, 20, 30]);
        assert!(report.running_ns > 0);
    }
}
