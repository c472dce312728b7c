//! How quiet the machine was while something was measured on it.

use std::fs;

use serde::Serialize;

use super::report::Column;

/// What else the machine did.
#[derive(Debug, Clone, Serialize)]
pub struct Noise {
    /// Programs that wanted a processor in the minute before.
    pub load: Option<f64>,
    /// Part of the time, in percent, in which the processors of this machine, itself a virtual
    /// one, were given to others.
    pub stolen: Option<f64>,
    /// How far the plainest of all measurements, a loop of a plain process, went apart: the
    /// largest less the smallest value, in percent of the median.
    pub unsteady: Option<f64>,
    /// Nothing of that is much.
    pub quiet: bool,
    /// All in a sentence.
    pub text: String,
}

/// Looked at before the first measurement.
#[derive(Debug)]
pub struct Before {
    load: Option<f64>,
    times: Option<Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    stolen: u64,
    all: u64,
}

/// What is going on now.
pub fn before() -> Before {
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split(' ').next()?.parse().ok());
    Before {
        load,
        times: times(),
    }
}

fn times() -> Option<Times> {
    parse(&fs::read_to_string("/proc/stat").ok()?)
}

fn parse(text: &str) -> Option<Times> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let all: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    Some(Times {
        stolen: *all.get(7)?,
        all: all.iter().take(8).sum(),
    })
}

/// What was going on since, beside what the columns themselves say.
pub fn after(before: &Before, columns: &[Column], processors: usize) -> Noise {
    let stolen = match (before.times, times()) {
        (Some(then), Some(now)) if now.all > then.all => {
            let stolen = now.stolen.saturating_sub(then.stolen);
            Some(100.0 * stolen as f64 / (now.all - then.all) as f64)
        }
        _ => None,
    };
    let plain = columns.iter().find(|column| column.id == "process");
    let figures = plain.map(|column| column.figures.as_slice());
    let mut figures = figures.unwrap_or_default().iter();
    let cpu = figures.find(|figure| figure.id == "cpu_ns");
    let unsteady = cpu.map(|cpu| 100.0 * (cpu.high - cpu.low) / cpu.median);
    judge(before.load, stolen, unsteady, processors)
}

fn judge(
    load: Option<f64>,
    stolen: Option<f64>,
    unsteady: Option<f64>,
    processors: usize,
) -> Noise {
    let mut told = Vec::new();
    let mut quiet = true;
    if let Some(load) = load {
        let busy = load > processors as f64 * 0.3;
        quiet &= !busy;
        told.push(format!("load {load:.1} on {processors} processors before"));
    }
    if let Some(stolen) = stolen.filter(|part| *part >= 0.5) {
        quiet &= stolen < 2.0;
        told.push(format!("{stolen:.0} % of the time given to others"));
    }
    if let Some(unsteady) = unsteady {
        quiet &= unsteady < 15.0;
        told.push(format!("a plain loop varied by {unsteady:.0} %"));
    }
    let told = told.join(", ");
    let text = match (quiet, told.is_empty()) {
        (_, true) => "nobody knows how quiet the machine was".to_owned(),
        (true, _) => format!("a quiet machine ({told})"),
        (false, _) => format!("a busy machine, ranges are wide ({told})"),
    };
    Noise {
        load,
        stolen,
        unsteady,
        quiet,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_times_are_read() {
        let text = "cpu  10 0 20 60 2 0 3 5 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let times = parse(text).unwrap();
        assert_eq!((times.stolen, times.all), (5, 100));
        assert!(parse("cpu 1 2").is_none() && parse("").is_none());
    }

    #[test]
    fn a_machine_is_quiet_where_nothing_says_otherwise() {
        let quiet = judge(Some(0.2), Some(0.1), Some(4.0), 2);
        assert!(quiet.quiet && quiet.text.starts_with("a quiet machine (load 0.2"));
        assert!(!judge(Some(1.5), Some(0.1), Some(4.0), 2).quiet);
        assert!(!judge(Some(0.1), Some(9.0), Some(4.0), 2).quiet);
        let busy = judge(Some(0.1), None, Some(40.0), 2);
        assert!(!busy.quiet && busy.text.contains("varied by 40 %"));
        assert!(judge(None, None, None, 1).text.contains("nobody knows"));
    }
}
