//! A second wall beside the system call filters, where the host's kernel has it: Landlock.
//!
//! A root directory with nothing in it and namespaces of its own keep a process from files, ports
//! and other processes already. This holds where one of those has a hole, and also where they
//! cannot be: the process of shared directories is the host's root, and would reach any process of
//! the host with a signal.

use landlock::{
    AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::seccomp::Role;
use super::{JailError, Step};

/// What is forbidden to a role, beyond what its other walls keep it from.
struct Walls {
    /// Uses of files.
    files: BitFlags<AccessFs>,
    /// A directory below which they are allowed all the same.
    except: Option<&'static str>,
    /// Signals to whatever has not been made by it.
    signals: bool,
}

fn walls(role: Role) -> Walls {
    let new_names = AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::MakeBlock
        | AccessFs::MakeChar
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    match role {
        // It ends its child, and the devices end the guest.
        Role::Waiter => Walls {
            files: BitFlags::all(),
            except: None,
            signals: false,
        },
        // When QEMU has booted, its kernel is removed from the root directory.
        Role::Devices => Walls {
            files: BitFlags::all() & !BitFlags::from(AccessFs::RemoveFile),
            except: None,
            signals: false,
        },
        Role::Cpu => Walls {
            files: BitFlags::all(),
            except: None,
            signals: false,
        },
        // Files are what it is for, and its root directory holds nothing else.
        Role::Shares => Walls {
            files: BitFlags::empty(),
            except: None,
            signals: true,
        },
        Role::Uml => Walls {
            files: new_names,
            except: None,
            signals: true,
        },
        Role::Qemu => Walls {
            files: new_names,
            except: Some("/boot"),
            signals: true,
        },
    }
}

/// The version of Landlock in this host's kernel; 0 without one.
pub fn version() -> i32 {
    let nothing: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag the call only says its version, and takes no pointer.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0,
            VERSION_WANTED,
        )
    };
    i32::try_from(version).unwrap_or(0).max(0)
}

/// The call's flag that asks for nothing but the version.
const VERSION_WANTED: u32 = 1;

/// Put the walls up, those that the host's kernel knows. For good, for this thread and whatever it
/// makes.
pub(super) fn restrict(role: Role) -> Result<(), JailError> {
    ruleset(&walls(role))
        .and_then(RulesetCreated::restrict_self)
        .map_err(std::io::Error::other)
        .step("restrict the machine's files and signals")?;
    Ok(())
}

fn ruleset(walls: &Walls) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket)?;
    if !walls.files.is_empty() {
        rules = rules.handle_access(walls.files)?;
    }
    if walls.signals {
        rules = rules.scope(Scope::Signal)?;
    }
    let mut rules = rules.create()?;
    if let Some(Ok(place)) = walls.except.map(PathFd::new) {
        rules = rules.add_rule(PathBeneath::new(place, walls.files))?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// What a process behind the walls of a role says, as its exit code.
    fn behind(role: Role, attempt: fn() -> bool) -> i32 {
        // SAFETY: the child makes system calls, allocates and ends; no other thread of the tests
        // holds anything that it uses but the allocator, which survives a fork.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let walled = restrict(role).is_ok();
                let code = if walled { i32::from(attempt()) } else { 9 };
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, code) => code,
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn files_ports_and_processes_are_out_of_reach() {
        let version = version();
        let held = |since: i32| i32::from(version < since);
        let open = || std::fs::File::open("/etc/passwd").is_ok();
        let make = || std::fs::File::create_new("/tmp/hull-landlock").is_ok();
        let port = || std::net::TcpListener::bind("127.0.0.1:0").is_ok();
        // The process that the tests were started by lives on.
        let signal = || nix::sys::signal::kill(nix::unistd::getppid(), None).is_ok();
        assert_eq!(behind(Role::Devices, open), held(1));
        assert_eq!(behind(Role::Cpu, open), held(1));
        assert_eq!(behind(Role::Uml, make), held(1));
        for role in [Role::Waiter, Role::Shares, Role::Qemu] {
            assert_eq!(behind(role, port), held(4), "{role:?}");
        }
        assert_eq!(behind(Role::Shares, signal), held(6));
        assert_eq!(behind(Role::Uml, signal), held(6));
        // What is needed works.
        assert_eq!(behind(Role::Shares, open), 1);
        assert_eq!(behind(Role::Devices, signal), 1);
        let _ = std::fs::remove_file("/tmp/hull-landlock");
    }
}
