//! Where a guest runs and what it has to read, whatever container it is for.

use std::path::PathBuf;

use guest_agent::protocol::{BlockDevice, Storage};
use vmm::{Disk, DiskSource, EngineKind, GuestArch};

use super::LaunchError;
use crate::arch::binfmt;
use crate::arch::dispatch::{self, Plan, Question};
use crate::arch::emulators;
use crate::arch::platform::Platform;
use crate::container::Emulation;
use crate::container::assets;
use crate::container::record::Config;
use crate::store::Store;

/// The serial of the disk with the image's layers and the emulators.
pub(crate) const LAYERS: &str = "layers";
/// The serial of the writable layer.
pub(crate) const WRITABLE: &str = "writable";

/// Where a guest with these layers runs, and what it has to read.
pub(crate) struct Base {
    pub(crate) place: Plan,
    pub(crate) disks: Vec<Disk>,
    pub(crate) storage: Storage,
}

/// Puts together what does not depend on the container: `layers`, the lowest first, the
/// emulators, and the engine that `config` wants.
pub(crate) fn base(
    store: &Store,
    config: &Config,
    platform: &Platform,
    layers: Vec<PathBuf>,
) -> Result<Base, LaunchError> {
    let engine = config
        .engine
        .as_deref()
        .map(str::parse::<EngineKind>)
        .transpose()?;
    let place = dispatch::choose(&Question {
        host: dispatch::host_architecture(),
        image: &platform.architecture,
        engine,
        emulation: config.emulation,
        isolation: config.isolation,
        kvm: kvm(store, engine, config.emulation),
    })?;
    let mut partitions = layers;
    let layer_count = partitions.len();
    let directory = emulators_directory(&place)?;
    let emulators = directory.as_deref();
    let emulators = emulators.map(|directory| emulators::disk(store, directory));
    let emulators = emulators.transpose()?;
    partitions.extend(emulators.clone());
    let mut disks = Vec::new();
    if !partitions.is_empty() {
        disks.push(Disk {
            serial: LAYERS.to_owned(),
            source: DiskSource::Partitions(partitions),
        });
    }
    let layer = |number: usize| BlockDevice {
        serial: LAYERS.to_owned(),
        partition: u32::try_from(number).ok(),
    };
    let storage = Storage {
        layers: (1..=layer_count).rev().map(layer).collect(),
        writable: Some(BlockDevice {
            serial: WRITABLE.to_owned(),
            partition: None,
        }),
        emulators: emulators.as_ref().map(|_| layer(layer_count + 1)),
        binfmt: match directory {
            Some(directory) => binfmt::rules(dispatch::native(place.engine, place.guest), |name| {
                directory.join(name).exists()
            }),
            None => Vec::new(),
        },
        transient: false,
        shares: Vec::new(),
        trees: Vec::new(),
    };
    Ok(Base {
        place,
        disks,
        storage,
    })
}

/// The writable layer as a disk.
pub(crate) fn writable(path: PathBuf, durable: bool) -> Disk {
    Disk {
        serial: WRITABLE.to_owned(),
        source: DiskSource::Writable { path, durable },
    }
}

/// Whether KVM runs guests here, if that matters.
pub fn kvm(
    store: &Store,
    engine: Option<EngineKind>,
    emulation: Option<Emulation>,
) -> Result<String, String> {
    if dispatch::asks_kvm(engine, emulation) {
        store.kvm(try_kvm)
    } else {
        Err("it was not asked for".to_owned())
    }
}

/// Try KVM.
pub fn try_kvm() -> Result<String, String> {
    let probe = vmm::probe_kvm();
    if probe.usable {
        Ok(probe.finding)
    } else {
        Err(probe.finding)
    }
}

/// Where the emulators are; without them only an image that needs one cannot run.
fn emulators_directory(place: &Plan) -> Result<Option<PathBuf>, LaunchError> {
    // A whole machine under QEMU is for exactness: it gets emulators only where it must.
    let wanted = place.user_emulation || place.engine != EngineKind::Tcg;
    match assets::emulators() {
        Ok(directory) if wanted => Ok(Some(directory)),
        Err(error) if place.user_emulation => Err(error.into()),
        _ => Ok(None),
    }
}

/// The engines and guests that a kernel can be built for, for `hull kernel` and `doctor`.
pub const GUESTS: [(EngineKind, GuestArch); 3] = [
    (EngineKind::Uml, GuestArch::X86_64),
    (EngineKind::Tcg, GuestArch::X86_64),
    (EngineKind::Tcg, GuestArch::Aarch64),
];
