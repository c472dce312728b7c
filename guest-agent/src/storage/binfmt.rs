//! Registration of the emulators for foreign programs.
//!
//! Purpose: with flag `F` the kernel opens the emulator now, from the agent's tree, so the
//! container's root needs no trace of it.

use std::fs::OpenOptions;
use std::io::Write;

use guest_agent::parse::binfmt::registration;
use guest_agent::protocol::{BinfmtRule, BlockDevice};

use super::devices::Devices;
use super::filesystem::NewMount;
use super::{EMULATORS, filesystem};
use crate::error::{Result, guest, invalid};

const BINFMT: &std::ffi::CStr = c"/proc/sys/fs/binfmt_misc";

/// Mounts the emulators image and registers every rule.
pub fn register(
    image: Option<&BlockDevice>,
    rules: &[BinfmtRule],
    devices: &Devices,
) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let image = image.ok_or_else(|| invalid("binfmt rules need an emulators image"))?;
    NewMount::image(&devices.node(image)?).at(EMULATORS)?;
    filesystem::mount_at("binfmt_misc", BINFMT)?;

    let mut register = OpenOptions::new()
        .write(true)
        .open("/proc/sys/fs/binfmt_misc/register")
        .map_err(|e| guest("cannot open binfmt_misc's register file", e))?;
    for rule in rules {
        let prefix = EMULATORS.to_str().unwrap_or_default();
        let line = registration(rule, prefix).map_err(|e| invalid(e.to_string()))?;
        // One write is one registration.
        register.write_all(&line).map_err(|e| {
            let what = format!(
                "cannot register emulator {} ({})",
                rule.name, rule.interpreter
            );
            guest(what, e)
        })?;
    }
    Ok(())
}
