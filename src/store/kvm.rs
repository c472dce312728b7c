//! Whether KVM works here, remembered so that starting a container does not find out anew.
//!
//! The note is in the run directory, which does not survive a reboot, and names what it is
//! about: this boot of the host, this instance of the device node (it is made anew when KVM's
//! module is loaded, perhaps with other options), and this version of hull. Whether this
//! user may open the device is not remembered.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Store, TempFile};

const DEVICE: &str = "/dev/kvm";

impl Store {
    /// The note if there is one about this host as it is; else what `probe` finds, which is
    /// noted. The error is a sentence.
    pub fn kvm(&self, probe: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
        let Some(about) = about() else {
            return probe();
        };
        let note = fs::read_to_string(self.kvm_note()).unwrap_or_default();
        if let Some(finding) = read(&note, &about) {
            return finding;
        }
        self.kvm_anew(probe)
    }

    /// What `probe` finds now, which is noted.
    pub fn kvm_anew(
        &self,
        probe: impl FnOnce() -> Result<String, String>,
    ) -> Result<String, String> {
        let finding = probe();
        if let Some(about) = about() {
            // Without a note the next command finds out by itself.
            let _ = self.write_kvm_note(&about, &finding);
        }
        finding
    }

    fn kvm_note(&self) -> PathBuf {
        self.paths().run.join("kvm")
    }

    fn write_kvm_note(&self, about: &str, finding: &Result<String, String>) -> std::io::Result<()> {
        let (word, text) = match finding {
            Ok(text) => ("works", text),
            Err(text) => ("fails", text),
        };
        let file = TempFile::create(&self.paths().run, "kvm")?;
        write!(file.file(), "{about}\n{word}\n{text}\n")?;
        file.persist(&self.kvm_note())
    }
}

fn read(note: &str, about: &str) -> Option<Result<String, String>> {
    let mut lines = note.lines();
    if lines.next() != Some(about) {
        return None;
    }
    match (lines.next()?, lines.next()?) {
        ("works", text) => Some(Ok(text.to_owned())),
        ("fails", text) => Some(Err(text.to_owned())),
        _ => None,
    }
}

/// What a note is about; none where the device is not there or this user may not open it.
fn about() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let access = nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK;
    nix::unistd::access(DEVICE, access).ok()?;
    let device = fs::metadata(DEVICE).ok()?;
    Some(format!(
        "{} {}:{}:{}.{} {}",
        boot.trim(),
        device.dev(),
        device.ino(),
        device.ctime(),
        device.ctime_nsec(),
        env!("CARGO_PKG_VERSION")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_about_something_else_is_none() {
        assert_eq!(read("a\nworks\nfine\n", "a"), Some(Ok("fine".to_owned())));
        assert_eq!(read("a\nfails\nno\n", "a"), Some(Err("no".to_owned())));
        for note in ["", "a\n", "a\nworks\n", "a\nelse\nx\n", "b\nworks\nfine\n"] {
            assert_eq!(read(note, "a"), None, "{note:?}");
        }
    }
}
