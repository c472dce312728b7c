//! Why the guest ended, from its process's end and its last words.

use nix::sys::wait::WaitStatus;

use crate::StopReason;
use crate::kvm::End;

/// How the kernel begins its last words.
const PANIC: &str = "Kernel panic - not syncing: ";

/// What these words contain when no memory was left.
const DEADLOCKED: [&str; 2] = ["System is deadlocked on memory", "Out of memory"];

/// The longest last words that are passed on.
const MAX_WORDS: usize = 300;

/// Judge the end of the guest's process.
pub(super) fn reason(status: WaitStatus, console: &str) -> StopReason {
    if let Some(reason) = last_words(console) {
        return reason;
    }
    match status {
        WaitStatus::Exited(_, 0) => StopReason::PowerOff,
        WaitStatus::Exited(_, code) => {
            let last = console.lines().rev().find(|line| !line.trim().is_empty());
            let last: String = last
                .unwrap_or("no message")
                .chars()
                .take(MAX_WORDS)
                .collect();
            StopReason::Failed(format!(
                "the guest's process ended with status {code}: {last}"
            ))
        }
        WaitStatus::Signaled(_, signal, _) => StopReason::Killed {
            signal: signal as i32,
        },
        other => StopReason::Failed(format!(
            "the guest's process is in a strange state: {other:?}"
        )),
    }
}

/// Judge the end of a guest whose CPUs are threads of ours.
pub(super) fn of_cpus(end: End, console: &str) -> StopReason {
    if let Some(reason) = last_words(console) {
        return reason;
    }
    StopReason::Failed(match end {
        End::PowerOff | End::Reset => return StopReason::PowerOff,
        End::TripleFault => "the guest's CPU gave up after a triple fault: its kernel is broken, \
             or was made to be"
            .to_owned(),
        End::Crash => "the guest's kernel crashed without saying why".to_owned(),
        End::Internal(why) => format!("the host's KVM gave the guest up: {why}"),
        End::Refused(code) => format!(
            "the host's CPU refused to run the guest (code {code:#x}): \
             its virtualization does not work, use another engine"
        ),
        End::Device(why) => why,
        End::Failed(why) => format!("cannot run the guest's CPU: {why}"),
    })
}

/// What the kernel said when it panicked.
fn last_words(console: &str) -> Option<StopReason> {
    let (_, words) = console.rsplit_once(PANIC)?;
    let words = words.lines().next().unwrap_or_default().trim();
    if DEADLOCKED.iter().any(|text| words.contains(text)) {
        return Some(StopReason::OutOfMemory);
    }
    Some(StopReason::Panic(words.chars().take(MAX_WORDS).collect()))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::unistd::Pid;

    use super::*;

    const PID: Pid = Pid::from_raw(2);

    #[test]
    fn ends_are_told_apart() {
        let exited = |code, console| reason(WaitStatus::Exited(PID, code), console);
        let aborted = |console| reason(WaitStatus::Signaled(PID, Signal::SIGABRT, false), console);
        assert_eq!(exited(0, "reboot: System halted\n"), StopReason::PowerOff);
        assert_eq!(
            aborted("x\nKernel panic - not syncing: Attempted to kill init! exitcode=0x00000b00\n"),
            StopReason::Panic("Attempted to kill init! exitcode=0x00000b00".to_owned())
        );
        assert_eq!(
            aborted("[1.0] Kernel panic - not syncing: System is deadlocked on memory\n"),
            StopReason::OutOfMemory
        );
        assert_eq!(aborted(""), StopReason::Killed { signal: 6 });
        let failed = exited(1, "bad option\n\n");
        assert!(
            matches!(&failed, StopReason::Failed(text) if text.ends_with("status 1: bad option"))
        );
    }

    #[test]
    fn ends_of_cpus_are_told_apart() {
        let words = "Kernel panic - not syncing: no init\n";
        let panicked = StopReason::Panic("no init".to_owned());
        assert_eq!(of_cpus(End::Reset, words), panicked);
        assert_eq!(of_cpus(End::TripleFault, words), panicked);
        assert_eq!(of_cpus(End::Reset, ""), StopReason::PowerOff);
        let mut sentences: Vec<String> = [
            End::PowerOff,
            End::TripleFault,
            End::Crash,
            End::Internal("code 9".to_owned()),
            End::Refused(7),
            End::Failed("x".to_owned()),
        ]
        .map(|end| of_cpus(end, "").to_string())
        .to_vec();
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), 6, "{sentences:?}");
    }

    #[test]
    fn last_words_are_bounded() {
        let console = format!("{PANIC}{}", "y".repeat(5000));
        let status = WaitStatus::Exited(PID, 0);
        assert_eq!(
            reason(status, &console),
            StopReason::Panic("y".repeat(MAX_WORDS))
        );
    }
}
