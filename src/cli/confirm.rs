//! Asking before something is removed.

use std::io::{self, BufRead, Write};

/// Shows docker's warning and asks; anything but a yes is a no.
pub fn confirmed(warning: &str) -> anyhow::Result<bool> {
    let mut output = io::stdout().lock();
    write!(
        output,
        "WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    )?;
    output.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
