//! The VMM process: one per machine.

use std::process::ExitCode;

/// Be a VMM process: what the `hull` program does when its first argument is
/// [`crate::VMM_ARGUMENT`]. The control channel is descriptor 0.
pub fn vmm_main() -> ExitCode {
    ExitCode::FAILURE
}
