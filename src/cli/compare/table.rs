//! A comparison as text: one table with a column per place, then what each place is.

use std::fmt::Write as _;

use crate::compare::{Column, Figure, Report};
use crate::layers::shown;

/// Characters of the names of rows, and of each column.
const NAME: usize = 34;
const CELL: usize = 19;

/// All of it; with more columns than fit into `width` characters there are several tables.
pub fn table(report: &Report, width: usize) -> String {
    let text = |text: &str| shown(text.as_bytes());
    let mut out = format!("{} on {}\n", text(&report.image), text(&report.host));
    let _ = writeln!(
        out,
        "medians of {} rounds, below each the smallest and the largest value; {}",
        report.runs, report.noise.text
    );
    let run: Vec<&Column> = report
        .columns
        .iter()
        .filter(|column| column.why_not.is_none())
        .collect();
    let fit = (width.saturating_sub(NAME) / CELL).max(1);
    for columns in run.chunks(fit) {
        out.push('\n');
        side_by_side(&mut out, columns);
    }
    out.push_str("\nFrom the request to the first instruction\n");
    for column in &run {
        let whole: f64 = column.timeline.iter().map(|stage| stage.ms).sum();
        let _ = writeln!(out, "{}: {} ms", column.id, number(whole));
        for stage in &column.timeline {
            let _ = writeln!(out, "  {:>8} ms  {}", number(stage.ms), text(&stage.name));
        }
    }
    out.push_str("\nWhat they are\n");
    for column in &report.columns {
        let _ = writeln!(out, "{}: {}", column.id, column.title);
        let _ = writeln!(out, "    boundary: {}", column.boundary);
        if let Some((_, how)) = &column.host_calls {
            let _ = writeln!(out, "    system calls of the host: {how}");
        }
        if let Some(why) = &column.why_not {
            let _ = writeln!(out, "    does not run here: {}", text(why));
        }
    }
    out
}

fn side_by_side(out: &mut String, columns: &[&Column]) {
    let mut row = |name: &str, cells: Vec<String>| {
        let mut line = format!("{name:NAME$}");
        for cell in cells {
            let _ = write!(line, "{cell:CELL$}");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    };
    let each = |cell: &dyn Fn(&Column) -> String| columns.iter().map(|one| cell(one)).collect();
    row("", each(&|column| column.id.clone()));
    row(
        "kernel",
        each(&|column| {
            let kernel = shown(column.kernel.as_deref().unwrap_or("?").as_bytes());
            let release: String = kernel.split(' ').next().unwrap_or_default().to_owned();
            release.chars().take(CELL - 2).collect()
        }),
    );
    row("what it sees", Vec::new());
    let names: Vec<&str> = columns[0].sights.iter().map(|sight| sight.name).collect();
    for name in names {
        let whose = |column: &Column| {
            let mut own = column.sights.iter().filter(|sight| sight.name == name);
            match own.next() {
                Some(sight) if sight.of_host => "the host's".to_owned(),
                Some(sight) if sight.value == "nothing" => "nothing".to_owned(),
                Some(_) => "its own".to_owned(),
                None => String::new(),
            }
        };
        row(&format!("  {name}"), each(&whose));
    }
    let reached = |column: &Column| {
        let calls = column.host_calls.as_ref();
        calls.map_or_else(|| "?".to_owned(), |(count, _)| count.to_string())
    };
    row("system calls of the host", each(&reached));
    let mut known: Vec<(&str, &str, &str)> = Vec::new();
    for figure in columns.iter().flat_map(|column| &column.figures) {
        if !known.iter().any(|(id, ..)| *id == figure.id) {
            known.push((figure.id, figure.name, figure.unit));
        }
    }
    for (id, name, unit) in known {
        let cell = |show: &dyn Fn(&Figure) -> String| {
            each(&|column| {
                let own = column.figures.iter().find(|figure| figure.id == id);
                own.map_or_else(|| "-".to_owned(), show)
            })
        };
        row(
            &format!("{name}, {unit}"),
            cell(&|figure| number(figure.median)),
        );
        let range = |figure: &Figure| format!("{} to {}", number(figure.low), number(figure.high));
        row("", cell(&range));
    }
}

fn number(value: f64) -> String {
    match value {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Noise, Sight, Stage};

    fn column(id: &str, why_not: Option<&str>) -> Column {
        Column {
            id: id.to_owned(),
            title: format!("title of {id}"),
            boundary: "a wall".to_owned(),
            why_not: why_not.map(str::to_owned),
            kernel: Some("6.1\u{1b}[2J #1".to_owned()),
            sights: vec![Sight {
                name: "kernel",
                value: "6.1".to_owned(),
                of_host: id == "process",
            }],
            host_calls: Some((300, "a list".to_owned())),
            timeline: vec![Stage {
                name: "exec".to_owned(),
                ms: 4.0,
            }],
            figures: vec![Figure {
                id: "cpu_ns",
                name: "a loop",
                unit: "ns",
                more_is_better: false,
                median: 12.345,
                low: 1.0,
                high: 1234.5,
                values: vec![1.0, 12.345, 1234.5],
            }],
        }
    }

    fn report() -> Report {
        let noise = Noise {
            load: None,
            stolen: None,
            unsteady: None,
            quiet: true,
            text: "quiet".to_owned(),
        };
        Report {
            image: "busybox".to_owned(),
            command: Vec::new(),
            begun: String::new(),
            host: "6.1, 2 processors".to_owned(),
            runs: 3,
            instances: 0,
            host_calls: Some(400),
            noise,
            columns: vec![
                column("process", None),
                column("uml", None),
                column("kvm", Some("no /dev/kvm\u{1b}[1m")),
            ],
        }
    }

    #[test]
    fn places_stand_side_by_side() {
        let text = table(&report(), usize::MAX);
        for wanted in [
            &format!("{:34}{:19}uml\n", "", "process"),
            &format!("{:34}{:19}its own\n", "  kernel", "the host's"),
            &format!("{:34}{:19}12.3\n", "a loop, ns", "12.3"),
            &format!("{:34}{:19}1.00 to 1234\n", "", "1.00 to 1234"),
            "    does not run here: no /dev/kvm\\x1b[1m\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_narrow_terminal_gets_several_tables() {
        let text = table(&report(), 60);
        assert_eq!(text.matches("a loop, ns").count(), 2);
        let tables = text.split("From the request").next().unwrap();
        let mut rows = tables.lines().skip(2);
        assert!(rows.all(|line| line.chars().count() <= 60), "{text}");
        assert_eq!(table(&report(), 0).matches("a loop, ns").count(), 2);
    }
}
