//! Progress of long work: bars on a terminal, docker's plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::{Progress, Silent, Step};

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, where `pull` and `push` report.
    Out,
    /// Standard error, where `run` reports a pull.
    Error,
}

impl Stream {
    fn is_terminal(self) -> bool {
        match self {
            Self::Out => io::stdout().is_terminal(),
            Self::Error => io::stderr().is_terminal(),
        }
    }

    fn line(self, text: &str) {
        // Who closed the stream does not want to know.
        let _ = match self {
            Self::Out => writeln!(io::stdout(), "{text}"),
            Self::Error => writeln!(io::stderr(), "{text}"),
        };
    }
}

/// The reporter that fits the stream; nothing is told when `quiet`.
pub fn reporter(stream: Stream, quiet: bool) -> Box<dyn Progress> {
    match () {
        () if quiet => Box::new(Silent),
        () if stream.is_terminal() => Box::new(Bars::new(stream)),
        () => Box::new(Lines(stream)),
    }
}

/// One line per step.
#[derive(Debug)]
pub struct Lines(pub Stream);

impl Progress for Lines {
    fn line(&self, text: &str) {
        self.0.line(text);
    }

    fn layer(&self, layer: &str, step: Step) {
        if !matches!(step, Step::Downloading(..) | Step::Pushing(..)) {
            self.0.line(&format!("{layer}: {}", step.text()));
        }
    }
}

/// One bar per layer.
pub struct Bars {
    stream: Stream,
    drawn: Mutex<Drawn>,
    words: ProgressStyle,
    bytes: ProgressStyle,
}

/// The bars of the layers that are on their way, and of those that came with them.
struct Drawn {
    bars: MultiProgress,
    layers: BTreeMap<String, (ProgressBar, bool)>,
}

impl std::fmt::Debug for Bars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bars")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Bars {
    /// Bars on this stream.
    pub fn new(stream: Stream) -> Self {
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        Self {
            stream,
            drawn: Mutex::new(Drawn {
                bars: bars(stream),
                layers: BTreeMap::new(),
            }),
            words: style("{prefix}: {msg}"),
            bytes: style("{prefix}: {msg:11} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes}"),
        }
    }
}

fn bars(stream: Stream) -> MultiProgress {
    MultiProgress::with_draw_target(match stream {
        Stream::Out => ProgressDrawTarget::stdout(),
        Stream::Error => ProgressDrawTarget::stderr(),
    })
}

impl Progress for Bars {
    fn line(&self, text: &str) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.layers.values().all(|(_, done)| *done) {
            // What is finished stays where it is, and the text goes below.
            *drawn = Drawn {
                bars: bars(self.stream),
                layers: BTreeMap::new(),
            };
            self.stream.line(text);
        } else {
            drawn.bars.suspend(|| self.stream.line(text));
        }
    }

    fn layer(&self, layer: &str, step: Step) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let Drawn { bars, layers } = &mut *drawn;
        let (bar, done) = layers.entry(layer.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0).with_style(self.words.clone()));
            bar.set_prefix(layer.to_owned());
            (bar, false)
        });
        let text = step.text();
        match step {
            Step::Downloading(at, total) | Step::Pushing(at, total) => {
                if bar.length() != Some(total) || bar.message() != text {
                    bar.set_length(total);
                    bar.set_style(self.bytes.clone());
                    bar.set_message(text);
                }
                bar.set_position(at);
            }
            _ => {
                bar.set_style(self.words.clone());
                bar.set_message(text);
                *done = step.is_last();
                if *done {
                    bar.abandon();
                } else {
                    bar.tick();
                }
            }
        }
    }
}
