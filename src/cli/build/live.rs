//! Progress on a terminal: the record of [`Plain`] scrolls by, and below it stands what every stage
//! does at this moment.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::build::plain::Plain;
use crate::build::{Event, Report};

/// How often the clocks move.
const TICK: Duration = Duration::from_millis(100);

/// Draws on the standard output.
pub struct Live {
    record: Plain,
    bars: MultiProgress,
    stages: Mutex<BTreeMap<usize, Stage>>,
    /// The begin of a line that is not whole.
    partial: Arc<Mutex<Vec<u8>>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

struct Stage {
    name: String,
    bar: Option<ProgressBar>,
}

impl Live {
    /// A reporter for a terminal.
    pub fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let partial = Arc::new(Mutex::new(Vec::new()));
        let (below, held) = (bars.clone(), Arc::clone(&partial));
        let record = Plain::to(Box::new(move |text| {
            // Only whole lines can stand above the bars.
            let mut partial = held.lock().unwrap_or_else(PoisonError::into_inner);
            partial.extend_from_slice(text);
            let Some(end) = partial.iter().rposition(|b| *b == b'\n') else {
                return;
            };
            let rest = partial.split_off(end + 1);
            below.suspend(|| {
                let mut out = io::stdout().lock();
                let _ = out.write_all(&partial).and_then(|()| out.flush());
            });
            *partial = rest;
        }));
        Self {
            record,
            bars,
            stages: Mutex::default(),
            partial,
        }
    }

    /// Writes what still waits.
    pub fn finish(&self) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in stages.values_mut().filter_map(|stage| stage.bar.take()) {
            bar.finish_and_clear();
        }
        drop(stages);
        self.record.finish();
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if !partial.is_empty() {
            partial.push(b'\n');
            // Who closed the terminal does not want to know.
            let _ = io::stdout()
                .lock()
                .write_all(&std::mem::take(&mut *partial));
        }
    }

    fn change(&self, stage: usize, change: impl FnOnce(&mut Stage)) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = stages.get_mut(&stage) {
            change(stage);
        }
    }

    fn bar(&self, name: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(" {spinner} [{prefix}] {elapsed:>4} {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bars.add(ProgressBar::new_spinner().with_style(style));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(TICK);
        bar
    }
}

/// The last line of what a command said, without anything that moves the cursor.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}

impl Report for Live {
    fn stages(&self, stages: &[(usize, String)]) {
        let mut known = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        *known = stages
            .iter()
            .map(|(number, name)| {
                let name = name.clone();
                (*number, Stage { name, bar: None })
            })
            .collect();
        drop(known);
        self.record.stages(stages);
    }

    fn event(&self, stage: usize, event: Event<'_>) {
        match event {
            Event::Step { text, .. } => {
                let text = text.to_owned();
                self.change(stage, |stage| {
                    let bar = stage.bar.take();
                    let bar = bar.unwrap_or_else(|| self.bar(&stage.name));
                    bar.reset_elapsed();
                    bar.set_message(last_line(text.as_bytes()).unwrap_or_default());
                    stage.bar = Some(bar);
                });
            }
            Event::Output(bytes) => self.change(stage, |stage| {
                if let (Some(bar), Some(line)) = (&stage.bar, last_line(bytes)) {
                    bar.set_message(line);
                }
            }),
            Event::End => self.change(stage, |stage| {
                if let Some(bar) = stage.bar.take() {
                    bar.finish_and_clear();
                }
            }),
            _ => {}
        }
        self.record.event(stage, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_output_cannot_move_the_cursor() {
        assert_eq!(
            last_line(b"a\nb \x1b[2J\x07c\n\n").as_deref(),
            Some("b [2Jc")
        );
        assert_eq!(last_line(b"\n \n"), None);
        assert_eq!(last_line(&[b'x'; 1000]).map(|line| line.len()), Some(200));
    }
}
