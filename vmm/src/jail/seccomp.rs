//! System calls that each of a machine's processes may use.
//!
//! The lists were made by recording what the processes do in the tests, and by reading what
//! the programs may do beyond that. What is not listed ends the two processes whose code is
//! all known here, and fails in the others with "operation not permitted".

use std::collections::{BTreeMap, BTreeSet};

use libc::c_long;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{JailError, Step};
use crate::EngineKind;

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

/// What every Rust or C program does.
const BASIC: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_wait4,
    libc::SYS_write,
];

/// What serving devices needs.
const DEVICES: &[c_long] = &[
    libc::SYS_dup,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_kill,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    // Limits of disks.
    libc::SYS_timerfd_settime,
    libc::SYS_shutdown,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_unlinkat,
    libc::SYS_writev,
];

/// What a CPU's registers of devices need: starting a device of another process, and its
/// end as a thread.
const CPU: &[c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_rseq,
    libc::SYS_sendmsg,
    libc::SYS_set_robust_list,
    libc::SYS_tgkill,
];

/// The request that lets a CPU run.
const KVM_RUN: u64 = 0xae80;

/// What serving files needs beyond that.
const SHARES: &[c_long] = &[
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_copy_file_range,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readlinkat,
    libc::SYS_removexattr,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setxattr,
    libc::SYS_statfs,
    libc::SYS_symlinkat,
    libc::SYS_syncfs,
    libc::SYS_umask,
    libc::SYS_utimensat,
];

/// What user-mode Linux does, in both of its ways to run guest programs.
const UML: &[c_long] = &[
    libc::SYS_clock_nanosleep,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_faccessat,
    libc::SYS_fallocate,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_kill,
    libc::SYS_lseek,
    libc::SYS_memfd_create,
    libc::SYS_mkdirat,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_personality,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_ptrace,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_recvmsg,
    libc::SYS_rseq,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_seccomp,
    libc::SYS_sendmsg,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsid,
    libc::SYS_shutdown,
    libc::SYS_signalfd4,
    libc::SYS_statfs,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_tkill,
    libc::SYS_uname,
    libc::SYS_unlinkat,
];

/// System calls that newer architectures do not have, where one of the lists above has the
/// newer form.
#[cfg(target_arch = "x86_64")]
const OLD_FORMS: &[(c_long, c_long)] = &[
    (libc::SYS_epoll_pwait, libc::SYS_epoll_wait),
    (libc::SYS_ppoll, libc::SYS_poll),
    (libc::SYS_unlinkat, libc::SYS_unlink),
    (libc::SYS_unlinkat, libc::SYS_rmdir),
    (libc::SYS_mkdirat, libc::SYS_mkdir),
    (libc::SYS_readlinkat, libc::SYS_readlink),
    (libc::SYS_epoll_create1, libc::SYS_epoll_create),
    (libc::SYS_dup3, libc::SYS_dup2),
    (libc::SYS_faccessat, libc::SYS_access),
    (libc::SYS_pipe2, libc::SYS_pipe),
    (libc::SYS_personality, libc::SYS_arch_prctl),
    (libc::SYS_newfstatat, libc::SYS_stat),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_FORMS: &[(c_long, c_long)] = &[];

/// What QEMU must not do. It has a list of its own too (`-sandbox`).
const NOT_QEMU: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Every flag of `clone` that makes a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Let this process and its children do nothing but what the role needs. For good.
pub(crate) fn confine(role: Role) -> Result<(), JailError> {
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
