//! A child that borrows this process's memory until it executes a program or ends.
//!
//! Purpose: a container's first process starts without a copy of the agent's address space,
//! whose pages would all be faulted in twice more.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::task::{self, Child, exit_now};

/// The child's stack, with a page below it that nothing can touch.
const STACK: usize = 256 << 10;
const GUARD: usize = 4 << 10;

/// Memory for a stack.
struct Stack(NonNull<c_void>);

impl Stack {
    fn new() -> nix::Result<Self> {
        let size = NonZeroUsize::MIN.saturating_add(STACK + GUARD - 1);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping that replaces nothing.
        let base = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE) }?;
        let stack = Self(base);
        // SAFETY: the page belongs to the new mapping, which nothing uses yet.
        unsafe { mprotect(base, GUARD, ProtFlags::PROT_NONE) }?;
        Ok(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and the only process that ever ran on it
        // has left this memory.
        let _ = unsafe { munmap(self.0, STACK + GUARD) };
    }
}

/// Makes a child in new namespaces (`CLONE_NEW*` bits) and in a cgroup that runs `body` in
/// this very memory, while this process stands still, until `body` has executed a program or
/// returns, which ends the child.
///
/// Whatever `body` allocates and does not free stays allocated here. It gets no more than a
/// shared reference, so it cannot take apart what belongs to the caller. It must not wait for
/// this process.
pub fn spawn(
    namespaces: i32,
    cgroup: Option<BorrowedFd<'_>>,
    body: &dyn Fn(),
) -> nix::Result<Child> {
    let stack = Stack::new()?;
    let bottom = stack.0.as_ptr() as u64 + GUARD as u64;
    let flags = namespaces | libc::CLONE_VM | libc::CLONE_VFORK;
    let mut pidfd: i32 = -1;
    let arguments = task::arguments(flags, cgroup, (bottom, STACK as u64), &mut pidfd);
    // SAFETY: see `clone3`: the stack is the child's alone, `entry` takes the pointer to
    // `body` and never returns. The child uses this memory only while the kernel keeps this
    // process, which has a single thread, inside of the call: everything that it refers to
    // outlives it. Thread-local state is shared with a thread that stands still.
    let result = unsafe { clone3(&arguments, entry, ptr::from_ref(&body).cast()) };
    if result < 0 {
        return Err(Errno::from_raw(-result as i32));
    }
    // SAFETY: the kernel stored a new descriptor for us, nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child {
        pid: result as i32,
        pidfd,
    })
}

/// Where the child begins. `body` points to the caller's reference.
unsafe extern "C" fn entry(body: *const c_void) -> ! {
    // SAFETY: `spawn` passes a pointer to a `&dyn Fn()` in its own frame, which stands still.
    let body = unsafe { &*body.cast::<&dyn Fn()>() };
    body();
    exit_now(0)
}

/// The system call; the child goes on in `entry` on the stack of the arguments. Returns what
/// the kernel does: the child's number, or an error's, negative.
///
/// # Safety
/// The arguments name a stack that nothing else uses.
unsafe fn clone3(
    arguments: &libc::clone_args,
    entry: unsafe extern "C" fn(*const c_void) -> !,
    body: *const c_void,
) -> libc::c_long {
    let result: libc::c_long;
    // SAFETY: in the parent this is an ordinary system call with the registers that it
    // changes. In the child all registers but the result and the stack pointer are the same,
    // so it finds function and argument; the stack's end is aligned as a call wants it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(arguments),
            in("rsi") size_of_val(arguments),
            in("r12") body,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            inlateout("x0") ptr::from_ref(arguments) as libc::c_long => result,
            in("x1") size_of_val(arguments),
            in("x8") libc::SYS_clone3,
            in("x20") body,
            in("x21") entry,
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn the_child_runs_in_this_memory_and_its_end_is_its_own() {
        let written = Cell::new(0);
        let child = spawn(0, None, &|| {
            written.set(std::process::id());
            exit_now(7)
        })
        .unwrap();
        assert_eq!(written.get(), child.pid as u32);
        let status = waitpid(Pid::from_raw(child.pid), None).unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, 7)), "{status:?}");
    }

    #[test]
    fn a_child_can_execute_a_program() {
        let child = spawn(0, None, &|| {
            let _ = nix::unistd::execv(c"/bin/sh", &[c"sh", c"-c", c"exit 5"]);
        })
        .unwrap();
        let status = waitpid(Pid::from_raw(child.pid), None).unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, 5)), "{status:?}");
    }

    #[test]
    fn a_child_that_is_not_made_is_an_error() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let cgroup = std::os::fd::AsFd::as_fd(&null);
        let made = spawn(0, Some(cgroup), &|| {});
        assert!(made.is_err());
    }
}
