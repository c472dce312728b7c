//! KVM: the host's CPU runs the guest, and this process is the rest of the machine.

use crate::kvm;
use crate::launch::LaunchSpec;

/// The guest's command line.
pub(crate) fn command_line(spec: &LaunchSpec, devices: usize) -> String {
    let mut words = kvm::arguments(devices);
    // The kernel takes the rest as its first program's arguments.
    words.push_str(&format!(" -- hull-guest:{}", spec.name));
    words
}
