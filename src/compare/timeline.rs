//! The parts of the way from the request to the program's first instruction.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::CompareError;
use super::place::{Container, Kind, Place, Setting, Start};
use super::probe::{self, probe};

/// A part of the way, and the milliseconds that it took.
pub type Part = (String, f64);

/// One run with its parts told apart; nothing where it did not get there.
pub fn timeline(place: &Place, kind: &Kind, setting: &Setting) -> Result<Vec<Part>, CompareError> {
    let hello = probe("hello");
    match kind {
        Kind::Process => {
            let start = place.start(kind, setting, &hello, 0, false)?;
            process(start.command)
        }
        Kind::Container(runtime) => container(place.container(runtime, setting, &hello, 0)?),
        Kind::Machine(engine) => {
            let command = place.machine(*engine, setting, &hello, &["--trace-boot"]);
            let start = Start {
                command,
                clean: None,
            };
            let Ok(done) = probe::run(start, true)? else {
                return Ok(Vec::new());
            };
            let mut parts = steps(&done.errors);
            let known: f64 = parts.iter().map(|(_, ms)| ms).sum();
            let rest = "hull before the machine, the container's root after it, exec";
            parts.push((rest.to_owned(), (done.first_ms - known).max(0.0)));
            Ok(parts)
        }
    }
}

/// A program's first byte, if it says one.
fn first_byte(output: Option<impl Read>) -> bool {
    let mut byte = [0];
    output.is_some_and(|mut output| output.read(&mut byte).is_ok_and(|count| count > 0))
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// A child's start returns when its program has been executed.
fn process(mut command: Command) -> Result<Vec<Part>, CompareError> {
    let failed = |cause| CompareError::io("cannot run", "the probe", cause);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    let executed = ms(begin);
    let spoke = first_byte(child.stdout.take());
    let whole = ms(begin);
    child.wait().map_err(failed)?;
    if !spoke {
        return Ok(Vec::new());
    }
    Ok(vec![
        ("fork, exec of chroot".to_owned(), executed),
        ("chroot, exec of the program".to_owned(), whole - executed),
    ])
}

/// What `run` does at once is done in its two steps.
fn container(container: Container) -> Result<Vec<Part>, CompareError> {
    let Container {
        mut create,
        mut start,
        mut clean,
        ..
    } = container;
    let failed = |cause| CompareError::io("cannot run", "the OCI runtime", cause);
    create
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    start.stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = create.spawn().map_err(failed)?;
    let output = child.stdout.take();
    let mut parts = Vec::new();
    // The container has the other end of the pipe, so the runtime's own end says nothing here.
    if child.wait().map_err(failed)?.success() {
        let created = ms(begin);
        let started = start.status().map_err(failed)?;
        if started.success() && first_byte(output) {
            parts = vec![
                (
                    "the runtime makes the container: namespaces, mounts, filters".to_owned(),
                    created,
                ),
                (
                    "the runtime starts the program: exec".to_owned(),
                    ms(begin) - created,
                ),
            ];
        }
    }
    // What it did not make it cannot take away, and says so to nobody.
    let _ = clean.status();
    Ok(parts)
}

/// The steps that `--trace-boot` told, each with how long it took.
pub fn steps(text: &str) -> Vec<Part> {
    let mut last = 0.0;
    let told = text.lines().filter_map(|line| {
        let (time, what) = line
            .strip_prefix("boot: ")?
            .trim_start()
            .split_once(" ms  ")?;
        let at: f64 = time.trim().parse().ok()?;
        let part = (what.to_owned(), at - last);
        last = at;
        Some(part)
    });
    told.filter(|(_, ms)| *ms > 0.0).collect()
}
