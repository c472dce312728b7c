//! The user's terminal: size and raw mode.

use std::io::{self, IsTerminal};

use guest_agent::protocol::WindowSize;
use nix::sys::termios::{self, SetArg, Termios};

/// The size of the terminal on standard input or output, if there is one.
pub fn window_size() -> Option<WindowSize> {
    let of_output = terminal_size::terminal_size_of(io::stdout());
    let (columns, rows) = of_output.or_else(|| terminal_size::terminal_size_of(io::stdin()))?;
    Some(WindowSize {
        rows: rows.0,
        columns: columns.0,
    })
}

/// Raw mode on standard input until dropped.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Enters raw mode; none when standard input is no terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}
