//! The processes of a container, in the columns of `ps`.

use guest_agent::protocol::ProcessInfo;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::record::now_ns;

/// The columns of `ps -ef`.
const FULL: [&str; 8] = ["uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"];
/// The columns of `ps aux`.
const USER: [&str; 11] = [
    "user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "command",
];

/// An option of `ps` that there is not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopError {
    /// An unknown option.
    #[error("option {0:?} of ps is not there, use -ef, aux or -o COLUMN,…")]
    Option(String),
    /// An unknown column.
    #[error(
        "ps has no column {0:?} here, use pid, ppid, user, uid, pcpu, pmem, vsz, rss, tty, stat, stime, etime, time, comm or args"
    )]
    Column(String),
}

/// What `ps` with these options would print of the processes: titles, and a row for each.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Headings.
    pub titles: Vec<String>,
    /// A row per process.
    pub rows: Vec<Vec<String>>,
}

/// Makes the table; `memory` is the guest's, in bytes.
pub fn table(
    processes: &[ProcessInfo],
    options: &[String],
    memory: u64,
) -> Result<Table, TopError> {
    let columns = columns(options)?;
    let mut titles = Vec::new();
    for (name, title) in &columns {
        // Unknown columns are refused before anything is printed.
        cell(&ProcessInfo::default(), name, memory)
            .ok_or_else(|| TopError::Column(name.clone()))?;
        titles.push(title.clone().unwrap_or_else(|| heading(name)));
    }
    let row = |process| {
        let cells = columns.iter().map(|(name, _)| cell(process, name, memory));
        cells.map(Option::unwrap_or_default).collect()
    };
    Ok(Table {
        titles,
        rows: processes.iter().map(row).collect(),
    })
}

/// Names of columns and the headings that the user gave them.
fn columns(options: &[String]) -> Result<Vec<(String, Option<String>)>, TopError> {
    let preset = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), None)).collect();
    let mut chosen: Vec<(String, Option<String>)> = Vec::new();
    let mut columns = preset(&FULL);
    let mut words = options.iter().flat_map(|option| option.split_whitespace());
    while let Some(word) = words.next() {
        let list = match word {
            "-o" | "o" | "-eo" => words.next().unwrap_or_default(),
            "-ef" | "-f" | "-e" | "-A" => continue,
            "aux" | "-aux" | "u" => {
                columns = preset(&USER);
                continue;
            }
            word => match word.strip_prefix("-eo").or_else(|| word.strip_prefix("-o")) {
                Some(list) if !list.is_empty() => list,
                _ => return Err(TopError::Option(word.to_owned())),
            },
        };
        for column in list.split(',').filter(|column| !column.is_empty()) {
            chosen.push(match column.split_once('=') {
                Some((name, title)) => (name.to_lowercase(), Some(title.to_owned())),
                None => (column.to_lowercase(), None),
            });
        }
    }
    Ok(if chosen.is_empty() { columns } else { chosen })
}

fn heading(column: &str) -> String {
    match column {
        "pcpu" | "%cpu" => "%CPU".to_owned(),
        "pmem" | "%mem" => "%MEM".to_owned(),
        "args" => "COMMAND".to_owned(),
        "comm" => "COMMAND".to_owned(),
        "etime" => "ELAPSED".to_owned(),
        "tt" | "tty" | "tname" => "TTY".to_owned(),
        column => column.to_uppercase(),
    }
}

fn cell(process: &ProcessInfo, column: &str, memory: u64) -> Option<String> {
    let age = process.uptime.saturating_sub(process.started);
    let share = |part: u64, whole: u64| match whole {
        0 => "0.0".to_owned(),
        whole => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    };
    Some(match column {
        "pid" => process.pid.to_string(),
        "ppid" => process.parent.to_string(),
        "uid" | "user" | "euser" if process.uid == 0 => "root".to_owned(),
        "uid" | "user" | "euser" => process.uid.to_string(),
        "c" => (process.cpu_ms / 10)
            .checked_div(age)
            .unwrap_or(0)
            .to_string(),
        "pcpu" | "%cpu" => share(process.cpu_ms, age * 1000),
        "pmem" | "%mem" => share(process.resident, memory),
        "vsz" => (process.virtual_size >> 10).to_string(),
        "rss" => (process.resident >> 10).to_string(),
        "tty" | "tt" | "tname" if process.tty < 0 => "?".to_owned(),
        "tty" | "tt" | "tname" => format!("pts/{}", process.tty & 0xff),
        "stat" | "s" | "state" => process.state.clone(),
        "stime" | "start" => clock(age),
        "etime" => elapsed(age),
        "time" | "cputime" => {
            let seconds = process.cpu_ms / 1000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
        }
        "comm" => process.command.clone(),
        "cmd" | "command" | "args" => process.arguments.clone(),
        _ => return None,
    })
}

/// The time of the day at which something began so many seconds ago.
fn clock(age: u64) -> String {
    let age = i64::try_from(age).unwrap_or(0);
    let begin = now_ns() / 1_000_000_000 - age;
    let begin = Timestamp::from_second(begin).unwrap_or_default();
    let local = TimeZone::system().to_datetime(begin);
    let format = if age < 24 * 3600 { "%H:%M" } else { "%b%d" };
    local.strftime(format).to_string()
}

fn elapsed(seconds: u64) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> ProcessInfo {
        ProcessInfo {
            pid: 1,
            uid: 0,
            started: 10,
            uptime: 20,
            cpu_ms: 5000,
            tty: -1,
            state: "S".into(),
            resident: 2 << 20,
            virtual_size: 4 << 20,
            command: "sleep".into(),
            arguments: "sleep 100".into(),
            ..ProcessInfo::default()
        }
    }

    fn shown(options: &[&str]) -> Result<Table, TopError> {
        let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
        table(&[process()], &options, 200 << 20)
    }

    #[test]
    fn the_default_is_ps_ef() {
        let table = shown(&[]).unwrap();
        assert_eq!(table.titles.join(" "), "UID PID PPID C STIME TTY TIME CMD");
        let row = &table.rows[0];
        assert_eq!((row[0].as_str(), row[3].as_str()), ("root", "50"));
        assert_eq!(row[6..], ["00:00:05", "sleep 100"]);
        assert_eq!(shown(&["-ef"]).unwrap().titles, table.titles);
    }

    #[test]
    fn columns_can_be_chosen() {
        let table = shown(&["-o", "pid,comm=PROGRAM,etime,pmem"]).unwrap();
        assert_eq!(table.titles, ["PID", "PROGRAM", "ELAPSED", "%MEM"]);
        assert_eq!(table.rows, [["1", "sleep", "00:10", "1.0"]]);
        assert_eq!(shown(&["aux"]).unwrap().titles.len(), USER.len());
        assert!(matches!(shown(&["-o", "mood"]), Err(TopError::Column(_))));
        assert!(matches!(shown(&["--forest"]), Err(TopError::Option(_))));
        assert_eq!(elapsed(90_061), "1-01:01:01");
    }
}
