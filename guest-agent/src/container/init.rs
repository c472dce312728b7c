//! The container's PID 1 under `--init`.
//!
//! Purpose: pass signals on to the real process, reap what is orphaned, and end as it ended.

use std::os::fd::AsFd;

use nix::unistd::{Pid, setpgid, tcsetpgrp};

use crate::error::{Result, guest, reason};
use crate::sys::{cred, task};

/// Forks: returns in the child that is to run the program; the parent stays and never
/// returns. All signals are blocked in both.
pub fn stay(terminal: bool) -> Result<()> {
    let failed = |e| guest("cannot start the init process", reason(e));
    let Some(child) = task::clone(0, None).map_err(failed)? else {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(failed)?;
        if terminal {
            tcsetpgrp(std::io::stdin().as_fd(), nix::unistd::getpid()).map_err(failed)?;
        }
        return Ok(());
    };
    // Nothing of the streams or of the agent must stay open here.
    let _ = cred::set_name(c"hull-init");
    let _ = task::close_from(0);
    serve(child.pid)
}

fn serve(child: i32) -> ! {
    loop {
        let Ok(signal) = task::wait_signal() else {
            task::exit_now(1)
        };
        if signal != libc::SIGCHLD {
            let _ = task::kill(child, signal);
            continue;
        }
        while let Ok(Some(ended)) = task::reap() {
            if ended.pid == child {
                task::exit_now(ended.code);
            }
        }
    }
}
