//! `hull-probe`: a small static program that says what it sees and how fast it is, the same
//! inside and outside of any sandbox. `hull compare` puts it into an image and runs it there.
//!
//! `hello` says that it runs; `idle` does too, and then waits to be killed; `look` tells about
//! its surroundings and `measure` about their speed, as JSON; `nop` does nothing.

mod look;
mod measure;

use std::io::Write;

fn main() -> std::process::ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    // The first thing that it does, so that who waits for it knows when that was.
    if matches!(mode.as_str(), "hello" | "idle") && say("!").is_err() {
        return std::process::ExitCode::FAILURE;
    }
    let done = match mode.as_str() {
        "hello" | "nop" => Ok(()),
        "idle" => loop {
            std::thread::park();
        },
        "look" => say(&look::look().to_string()),
        "measure" => measure::measure().and_then(|found| say(&found.to_string())),
        other => {
            eprintln!("hull-probe: there is no {other:?}");
            return std::process::ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hull-probe: {mode}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}
