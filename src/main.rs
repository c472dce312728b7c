//! The `hull` binary: decides which of its processes it is, and nothing else.

use std::process::ExitCode;

use nix::sys::signal::{SigHandler, Signal, signal};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some(vmm::VMM_ARGUMENT) => vmm::vmm_main(),
        Some(hull::container::supervisor::SUBCOMMAND) => hull::container::supervisor::main(),
        Some(hull::container::standby::SUBCOMMAND) => hull::container::standby::main(),
        Some(hull::network::holder::SUBCOMMAND) => hull::network::holder::main(),
        // Keeps the signal ignored, as it is at the start: a client that left ends nothing.
        Some("serve" | "ui") => hull::cli::main(arguments),
        _ => {
            // SAFETY: no other thread runs yet, and the default action needs no handler. A
            // command line whose reader has gone ends quietly, as other programs do; sockets
            // are written without raising the signal.
            let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
            hull::cli::main(arguments)
        }
    }
}
