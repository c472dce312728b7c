//! Finding the program to run, and explaining why it cannot be.
//!
//! Purpose: docker's words for a missing or unusable program, and two facts side by side
//! where the image's platform label and the program's ELF header disagree.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use guest_agent::parse::{elf, shebang};
use guest_agent::protocol::{AgentError, ErrorKind};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, stat};

use crate::error::reason;
use crate::sys::cred::may_execute;

/// The kernel follows no longer chain of scripts.
const MAX_SCRIPTS: usize = 5;

fn not_found(message: String) -> AgentError {
    AgentError {
        kind: ErrorKind::NotFound,
        message,
    }
}

fn not_executable(message: String) -> AgentError {
    AgentError {
        kind: ErrorKind::NotExecutable,
        message,
    }
}

/// The file that running `name` means, searched as docker does it.
pub fn find(name: &str, path: Option<&str>) -> Result<CString, AgentError> {
    if name.contains('/') {
        let candidate = CString::new(name).map_err(|_| nul(name))?;
        return match check(&candidate) {
            Ok(()) => Ok(candidate),
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => Err(not_found(format!(
                "exec: {name:?}: stat {name}: {}",
                reason(errno)
            ))),
            Err(errno) => Err(not_executable(format!("exec: {name:?}: {}", reason(errno)))),
        };
    }
    if !name.is_empty() {
        for directory in path
            .unwrap_or_default()
            .split(':')
            .filter(|d| d.starts_with('/'))
        {
            let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
            let candidate = CString::new(candidate).map_err(|_| nul(name))?;
            if check(&candidate).is_ok() {
                return Ok(candidate);
            }
        }
    }
    Err(not_found(format!(
        "exec: {name:?}: executable file not found in $PATH"
    )))
}

fn nul(name: &str) -> AgentError {
    not_found(format!(
        "exec: {name:?}: a program's name cannot contain a zero byte"
    ))
}

fn check(candidate: &CString) -> nix::Result<()> {
    let mode = stat(candidate.as_c_str())?.st_mode;
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    may_execute(candidate)
}

/// The ELF program at the end of a chain of scripts.
#[derive(Debug, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: String,
    /// What its header says.
    pub facts: elf::Facts,
}

/// Follows `path` through `#!` lines to an ELF file; `None` when that cannot be read.
pub fn inspect(path: &str) -> Option<Binary> {
    let mut path = path.to_owned();
    for _ in 0..MAX_SCRIPTS {
        let start = read_start(&path)?;
        match shebang::interpreter(&start) {
            Some(next) => path = String::from_utf8(next.to_vec()).ok()?,
            None => return elf::inspect(&start).map(|facts| Binary { path, facts }),
        }
    }
    None
}

fn read_start(path: &str) -> Option<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = vec![0; elf::READ_LEN];
    let len = file.read_at(&mut start, 0).ok()?;
    start.truncate(len);
    Some(start)
}

/// The sentence for a program that is not of the image's architecture but will run.
pub fn mismatch(binary: &Binary, architecture: &str) -> Option<String> {
    let Binary { path, facts } = binary;
    if architecture.is_empty() || facts.architecture == architecture {
        return None;
    }
    let real = &facts.architecture;
    Some(format!(
        "the image says it is for {architecture}, but its program {path} is for {real}"
    ))
}

/// Why the kernel refused to run `path`.
pub fn explain(path: &str, errno: Errno, architecture: &str) -> AgentError {
    let what = format!("exec {path}: {}", reason(errno));
    match errno {
        Errno::ENOENT => match missing(path) {
            Some(text) => not_found(format!("{what}: {text}")),
            None => not_found(what),
        },
        Errno::ENOEXEC => match inspect(path) {
            Some(binary) => {
                let real = &binary.facts.architecture;
                let fact = mismatch(&binary, architecture)
                    .unwrap_or_else(|| format!("the program {} is for {real}", binary.path));
                not_executable(format!(
                    "{what}: {fact}, and nothing in this guest runs {real}"
                ))
            }
            None => not_executable(format!(
                "{what}: it is neither an ELF program nor a script that starts with #!"
            )),
        },
        _ => not_executable(what),
    }
}

/// What a file that exists lacks to be run.
fn missing(path: &str) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..MAX_SCRIPTS {
        let start = read_start(&path)?;
        if let Some(next) = shebang::interpreter(&start) {
            let next = String::from_utf8_lossy(next).into_owned();
            if !Path::new(&next).exists() {
                let hint = if next.ends_with('\r') {
                    " (its lines end as on Windows)"
                } else {
                    ""
                };
                return Some(format!(
                    "the interpreter {next:?} of {path} does not exist in the image{hint}"
                ));
            }
            path = next;
            continue;
        }
        let loader = elf::inspect(&start)?.loader?;
        return (!Path::new(&loader).exists())
            .then(|| format!("the loader {loader:?} of {path} does not exist in the image"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, name: &str, content: &str, mode: u32) -> String {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn programs_are_found_or_refused_in_dockers_words() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let good = script(dir, "good", "#!/bin/sh\n", 0o755);
        let plain = script(dir, "plain", "text", 0o644);
        fs::create_dir(dir.join("sub")).unwrap();
        let here = dir.to_str().unwrap();
        let path = format!("/nowhere:relative:{here}/");

        let found = |name: &str| find(name, Some(&path)).map(|p| p.into_string().unwrap());
        assert_eq!(found("good").unwrap(), good);
        assert_eq!(found(&good).unwrap(), good);
        for name in ["plain", "sub", "gone", ""] {
            let error = found(name).unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFound);
            assert_eq!(
                error.message,
                format!("exec: {name:?}: executable file not found in $PATH")
            );
        }
        let error = found("/no/such").unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(
            error.message,
            "exec: \"/no/such\": stat /no/such: no such file or directory"
        );
        let error = found(&plain).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotExecutable);
        assert_eq!(error.message, format!("exec: {plain:?}: permission denied"));
        let error = found(&format!("{here}/sub")).unwrap_err();
        assert_eq!(
            error.message,
            format!("exec: \"{here}/sub\": is a directory")
        );
        assert!(find("good", None).is_err());
    }

    #[test]
    fn scripts_lead_to_their_elf_program() {
        let dir = tempfile::tempdir().unwrap();
        let one = script(dir.path(), "one", "#!/bin/sh\n", 0o755);
        let two = script(dir.path(), "two", &format!("#!{one} -x\n"), 0o755);
        let binary = inspect(&two).unwrap();
        assert_eq!(binary.path, "/bin/sh");
        let native = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        assert_eq!(binary.facts.architecture, native);
        assert_eq!(mismatch(&binary, native), None);
        assert_eq!(mismatch(&binary, ""), None);
        let text = mismatch(&binary, "s390x").unwrap();
        assert_eq!(
            text,
            format!("the image says it is for s390x, but its program /bin/sh is for {native}")
        );

        let own = script(dir.path(), "own", "", 0o755);
        fs::write(&own, format!("#!{own}\n")).unwrap();
        assert_eq!(inspect(&own), None);
        assert_eq!(inspect("/dev/zero"), None);
    }

    #[test]
    fn what_a_program_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lost = script(dir.path(), "lost", "#!/no/such/bash\n", 0o755);
        let error = explain(&lost, Errno::ENOENT, "amd64");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(
            error.message.contains("the interpreter \"/no/such/bash\""),
            "{error}"
        );
        let dos = script(dir.path(), "dos", "#!/bin/sh\r\n", 0o755);
        assert!(explain(&dos, Errno::ENOENT, "").message.contains("Windows"));
        let text = script(dir.path(), "text", "hello", 0o755);
        let error = explain(&text, Errno::ENOEXEC, "amd64");
        assert_eq!(error.kind, ErrorKind::NotExecutable);
        assert!(
            error
                .message
                .contains("neither an ELF program nor a script"),
            "{error}"
        );
        let error = explain("/bin/sh", Errno::ENOEXEC, "s390x");
        assert!(
            error.message.contains("the image says it is for s390x"),
            "{error}"
        );
    }
}
