//! Running the probe: when it begins, what it tells.

use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use super::CompareError;
use super::place::{Kind, Place, Setting, Start};
use super::prepare::PROBE;

/// The most that is read of what a program says.
const MOST: u64 = 1 << 20;

/// How one run went.
#[derive(Debug, Default)]
pub struct Done {
    /// Milliseconds until the program said its first byte.
    pub first_ms: f64,
    /// Milliseconds until its end was known.
    pub whole_ms: f64,
    /// What it said.
    pub output: Vec<u8>,
    /// What was said about it.
    pub errors: String,
}

/// Why a program did not run, in a line.
pub type Refused = String;

/// The probe's arguments.
pub fn probe(mode: &str) -> Vec<String> {
    vec![PROBE.to_owned(), mode.to_owned()]
}

/// Runs a program to its end.
pub fn run(start: Start, must_succeed: bool) -> Result<Result<Done, Refused>, CompareError> {
    let Start { mut command, clean } = start;
    let program = command.get_program().to_owned();
    let failed = |cause| CompareError::io("cannot run", &program, cause);
    let errors = tempfile::tempfile().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.try_clone().map_err(failed)?);
    let begin = Instant::now();
    let ms = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Err(format!("{}: {error}", program.display()))),
    };
    let mut done = Done::default();
    if let Some(mut output) = child.stdout.take() {
        let mut byte = [0];
        if output.read(&mut byte).map_err(failed)? > 0 {
            done.first_ms = ms(begin);
            done.output.push(byte[0]);
            let rest = output.by_ref().take(MOST).read_to_end(&mut done.output);
            rest.map_err(failed)?;
        }
    }
    let status = child.wait().map_err(failed)?;
    done.whole_ms = ms(begin);
    done.errors = text_of(errors);
    if let Some(mut clean) = clean {
        // It is gone already where it ended by itself.
        let _ = clean.status();
    }
    if must_succeed && (!status.success() || done.output.is_empty()) {
        let said = done
            .errors
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        return Ok(Err(said.map_or_else(|| status.to_string(), str::to_owned)));
    }
    Ok(Ok(done))
}

fn text_of(mut file: std::fs::File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    // What cannot be read is not shown.
    let _ = file
        .rewind()
        .and_then(|()| file.take(MOST).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the probe tells in a place, as JSON.
pub fn ask(
    place: &Place,
    kind: &Kind,
    setting: &Setting,
    mode: &str,
) -> Result<Result<Value, Refused>, CompareError> {
    let start = place.start(kind, setting, &probe(mode), 0, mode == "look")?;
    Ok(match run(start, true)? {
        Ok(done) => serde_json::from_slice(&done.output)
            .map_err(|error| format!("the probe said nonsense: {error}")),
        Err(refused) => Err(refused),
    })
}
