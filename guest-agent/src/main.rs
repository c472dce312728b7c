//! `hull-agent`, PID 1 of every guest.

mod agent;
mod boot;
mod container;
mod error;
mod network;
mod options;
mod storage;
mod sys;

use nix::sys::reboot::{RebootMode, reboot};

fn main() {
    std::panic::set_hook(Box::new(|panic| die(&format!("internal error: {panic}"))));
    let options = options::Options::parse(std::env::args().skip(1));
    let result = boot::boot(options)
        .and_then(agent::Agent::new)
        .and_then(|mut a| a.run());
    let Err(error) = result;
    die(&error.message);
}

/// Says why on the console and ends the guest, which is of no use without its agent. A
/// reboot ends every kind of machine of ours; a power-off halts those without ACPI for ever.
fn die(reason: &str) {
    eprintln!("hull-agent: {reason}");
    if std::process::id() == 1 {
        let _ = reboot(RebootMode::RB_AUTOBOOT);
    }
    std::process::exit(1);
}
