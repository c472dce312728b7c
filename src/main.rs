//! The `hull` binary: decides which of its processes it is, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some(vmm::VMM_ARGUMENT) => vmm::vmm_main(),
        Some(hull::container::supervisor::SUBCOMMAND) => hull::container::supervisor::main(),
        _ => hull::cli::main(arguments),
    }
}
