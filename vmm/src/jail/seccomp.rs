//! System calls that each of a machine's processes may use.
//!
//! What is not listed ends the processes whose code is all known here, and fails in the others
//! with "operation not permitted".

mod lists;

use std::collections::{BTreeMap, BTreeSet};

use libc::c_long;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{JailError, Step, is_left_off, landlock};
use crate::EngineKind;
use lists::{BASIC, CPU, DEVICES, KVM_RUN, NAMESPACES, NOT_QEMU, OLD_FORMS, SHARES, UML};

/// Whose system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The process that only waits for the others.
    Waiter,
    /// The process that serves the devices, once everything is set up.
    Devices,
    /// A thread that runs a guest's CPU.
    Cpu,
    /// The process that serves shared directories.
    Shares,
    /// User-mode Linux and the processes that it runs guest programs in.
    Uml,
    /// QEMU.
    Qemu,
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Let this process and its children do nothing but what the role needs. For good.
pub(crate) fn confine(role: Role) -> Result<(), JailError> {
    if is_left_off() {
        return Ok(());
    }
    landlock::restrict(role)?;
    #[cfg(feature = "misbehave")]
    super::misbehave::here(role, "before")?;
    let step = "restrict the machine's system calls";
    if matches!(role, Role::Uml | Role::Qemu) {
        let filter = old_clone().map_err(std::io::Error::other).step(step)?;
        seccompiler::apply_filter(&filter)
            .map_err(std::io::Error::other)
            .step(step)?;
    }
    let filter = filter(role).map_err(std::io::Error::other).step(step)?;
    seccompiler::apply_filter(&filter)
        .map_err(std::io::Error::other)
        .step(step)?;
    #[cfg(feature = "misbehave")]
    super::misbehave::here(role, "behind")?;
    Ok(())
}

/// A filter that pretends that `clone3` does not exist, since its flags cannot be looked at:
/// the C library falls back on `clone`.
fn old_clone() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    let rules = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, missing, arch)?.try_into()
}

fn filter(role: Role) -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    let (rules, otherwise, action) = rules(role)?;
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let action = action.unwrap_or(SeccompAction::Allow);
    seccompiler::BpfProgram::try_from(SeccompFilter::new(rules, otherwise, action, arch)?)
}

/// How many of the host's system calls a machine's processes can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCalls {
    /// So many, whatever the host has.
    Only(usize),
    /// All that the host has but so many.
    AllBut(usize),
}

/// The host's system calls that an engine's processes can reach once a guest runs, counted from
/// the lists that confine them. A call that is allowed with some arguments only counts.
pub fn host_calls(engine: EngineKind) -> Option<HostCalls> {
    // More than any host has.
    const NUMBERS: c_long = 1024;
    let roles: &[Role] = match engine {
        EngineKind::Uml => &[Role::Waiter, Role::Devices, Role::Uml],
        EngineKind::Kvm => &[Role::Waiter, Role::Devices, Role::Cpu],
        EngineKind::Tcg => &[Role::Waiter, Role::Devices, Role::Qemu],
    };
    let mut reachable = BTreeSet::new();
    let mut lists_refused = false;
    for role in roles {
        let (rules, otherwise, _) = rules(*role).ok()?;
        lists_refused |= matches!(otherwise, SeccompAction::Allow);
        reachable.extend(
            (0..NUMBERS).filter(|call| match (&otherwise, rules.get(call)) {
                // What is refused under conditions is there under others.
                (SeccompAction::Allow, Some(conditions)) => !conditions.is_empty(),
                (SeccompAction::Allow, None) => true,
                (_, listed) => listed.is_some(),
            }),
        );
    }
    let count = reachable.len();
    Some(match lists_refused {
        true => HostCalls::AllBut(usize::try_from(NUMBERS).ok()?.saturating_sub(count)),
        false => HostCalls::Only(count),
    })
}

type Listed = (Rules, SeccompAction, Option<SeccompAction>);

fn rules(role: Role) -> Result<Listed, seccompiler::BackendError> {
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    Ok(match role {
        Role::Waiter => (
            allow(&[BASIC, &[libc::SYS_kill, libc::SYS_ppoll, libc::SYS_tgkill]]),
            SeccompAction::KillProcess,
            None,
        ),
        Role::Devices => {
            let mut rules = allow(&[BASIC, DEVICES]);
            data_only(&mut rules)?;
            // A machine that waited gets its container's name.
            let naming = SeccompRule::new(vec![equal(0, libc::PR_SET_NAME as u64)?])?;
            rules.insert(libc::SYS_prctl, vec![naming]);
            (rules, SeccompAction::KillProcess, None)
        }
        Role::Cpu => {
            let mut rules = allow(&[BASIC, CPU]);
            data_only(&mut rules)?;
            // Nothing of KVM but to go on.
            let run = SeccompRule::new(vec![equal(1, KVM_RUN)?])?;
            rules.insert(libc::SYS_ioctl, vec![run]);
            (rules, SeccompAction::KillProcess, None)
        }
        Role::Shares => {
            let mut rules = allow(&[BASIC, DEVICES, SHARES]);
            data_only(&mut rules)?;
            // It is the host's root or user: it must not reach other processes.
            rules.remove(&libc::SYS_kill);
            rules.remove(&libc::SYS_tgkill);
            (rules, refuse, None)
        }
        Role::Uml => {
            let mut rules = allow(&[BASIC, UML, &[libc::SYS_clone3]]);
            rules.insert(libc::SYS_socketpair, vec![local_sockets()?]);
            rules.insert(libc::SYS_clone, vec![no_namespaces()?]);
            // Programs are executed by descriptor: the guest kernel once, and the program
            // in it that guest programs run in.
            let by_descriptor = equal(4, libc::AT_EMPTY_PATH as u64)?;
            rules.insert(
                libc::SYS_execveat,
                vec![SeccompRule::new(vec![by_descriptor])?],
            );
            (rules, refuse, None)
        }
        Role::Qemu => {
            let mut rules: Rules = NOT_QEMU.iter().map(|call| (*call, Vec::new())).collect();
            let not_local = SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Ne,
                libc::AF_UNIX as u64,
            )?;
            rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![not_local])?]);
            let mut namespaces = Vec::new();
            for bit in (0..32)
                .map(|bit| 1u64 << bit)
                .filter(|bit| NAMESPACES & bit != 0)
            {
                let set = SeccompCondition::new(
                    0,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(bit),
                    bit,
                )?;
                namespaces.push(SeccompRule::new(vec![set])?);
            }
            rules.insert(libc::SYS_clone, namespaces);
            (rules, SeccompAction::Allow, Some(refuse))
        }
    })
}

fn allow(lists: &[&[c_long]]) -> Rules {
    let mut rules: Rules = lists
        .iter()
        .copied()
        .flatten()
        .map(|call| (*call, Vec::new()))
        .collect();
    for (new, old) in OLD_FORMS {
        if rules.contains_key(new) {
            rules.insert(*old, Vec::new());
        }
    }
    rules
}

/// Memory can be mapped, but not to be executed.
fn data_only(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let exec = libc::PROT_EXEC as u64;
        let not_executable =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(exec), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![not_executable])?]);
    }
    Ok(())
}

fn local_sockets() -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![equal(0, libc::AF_UNIX as u64)?])
}

fn no_namespaces() -> Result<SeccompRule, seccompiler::BackendError> {
    let none = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(NAMESPACES),
        0,
    )?;
    SeccompRule::new(vec![none])
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_filter_that_the_kernel_takes() {
        for role in [
            Role::Waiter,
            Role::Devices,
            Role::Cpu,
            Role::Shares,
            Role::Uml,
            Role::Qemu,
        ] {
            let program = filter(role).unwrap();
            // The kernel's limit.
            assert!(!program.is_empty() && program.len() <= 4096, "{role:?}");
        }
    }

    #[test]
    fn nothing_dangerous_is_allowed() {
        let dangerous = [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_execve,
            libc::SYS_pivot_root,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
        ];
        for lists in [&[BASIC, DEVICES, SHARES][..], &[BASIC, CPU], &[BASIC, UML]] {
            let rules = allow(lists);
            assert!(dangerous.iter().all(|call| !rules.contains_key(call)));
        }
        assert!(dangerous.iter().all(|call| NOT_QEMU.contains(call)));
    }

    #[test]
    fn a_confined_process_is_stopped() {
        use nix::sys::wait::{WaitStatus, waitpid};
        use nix::unistd::{ForkResult, fork};
        // SAFETY: the child only makes system calls and ends.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let confined = confine(Role::Waiter).is_ok();
                // Not allowed: ends the process here.
                let _ = nix::unistd::chdir("/");
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(if confined { 1 } else { 2 }) }
            }
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).unwrap();
                assert!(
                    matches!(status, WaitStatus::Signaled(_, nix::sys::signal::SIGSYS, _)),
                    "{status:?}"
                );
            }
        }
    }
}
