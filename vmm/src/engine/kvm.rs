//! KVM: the host's CPU runs the guest, and this process is the rest of the machine.

use super::REPORTING;
use crate::kvm;
use crate::launch::LaunchSpec;

/// The guest's command line.
pub(crate) fn command_line(spec: &LaunchSpec, devices: usize) -> String {
    // The level comes first: what is read later holds from then on only.
    let mut words = format!("{} {}", spec.log_level(), kvm::arguments(devices));
    words.push_str(&format!(" {REPORTING}"));
    // The kernel takes the rest as its first program's arguments.
    words.push_str(&format!(" -- hull-guest:{}", spec.name));
    words
}
