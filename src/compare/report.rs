//! What a comparison found.

use serde::Serialize;
use serde_json::Value;

use super::noise::Noise;

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image.
    pub image: String,
    /// The command, where one was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// When it began (RFC 3339).
    pub begun: String,
    /// The host's kernel, its processors, its architecture.
    pub host: String,
    /// How often everything was measured.
    pub runs: usize,
    /// Instances at once, for the memory of one.
    pub instances: usize,
    /// System calls that the host's kernel has; none where it does not say.
    pub host_calls: Option<usize>,
    /// How quiet the machine was.
    pub noise: Noise,
    /// Where the program ran, or why it did not.
    pub columns: Vec<Column>,
}

/// One way to run the program.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    /// A word for it.
    pub id: String,
    /// What it is.
    pub title: String,
    /// What stands between it and the host.
    pub boundary: String,
    /// Why it could not run here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// The kernel that the program sees.
    pub kernel: Option<String>,
    /// What of the host the program sees.
    pub sights: Vec<Sight>,
    /// System calls of the host that the sandbox can reach, and how that is known.
    pub host_calls: Option<(usize, String)>,
    /// From the request to the program's first instruction.
    pub timeline: Vec<Stage>,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// Something of the machine that the program looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Sight {
    /// What.
    pub name: &'static str,
    /// What it saw.
    pub value: String,
    /// It is the host's own.
    pub of_host: bool,
}

/// A part of the way to the first instruction.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// What happened.
    pub name: String,
    /// How long it took: the median.
    pub ms: f64,
}

/// Something that was measured several times.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What, as a key.
    pub id: &'static str,
    /// What, in words.
    pub name: &'static str,
    /// In what.
    pub unit: &'static str,
    /// More is better.
    pub more_is_better: bool,
    /// The middle one.
    pub median: f64,
    /// The smallest one.
    pub low: f64,
    /// The largest one.
    pub high: f64,
    /// All, in the order in which they were measured.
    pub values: Vec<f64>,
}

/// What is measured: key, words, unit, whether more is better.
const FIGURES: [(&str, &str, &str, bool); 10] = [
    ("first_ms", "request to first instruction", "ms", false),
    ("whole_ms", "request to end", "ms", false),
    ("command_ms", "the command, request to end", "ms", false),
    ("memory_mib", "memory of one idle instance", "MiB", false),
    ("syscall_ns", "one system call", "ns", false),
    ("fork_exec_us", "fork and exec", "µs", false),
    ("cpu_ns", "100 multiplications", "ns", false),
    ("file_write_mb_s", "file written to disk", "MB/s", true),
    ("file_read_mb_s", "file read", "MB/s", true),
    ("network_mb_s", "TCP to itself", "MB/s", true),
];

impl Figure {
    /// The figures of which there are values.
    pub fn all(get: impl Fn(&str) -> Vec<f64>) -> Vec<Self> {
        let known = FIGURES
            .iter()
            .filter_map(|&(id, name, unit, more_is_better)| {
                let values = get(id);
                let (low, median, high) = spread(&values)?;
                Some(Self {
                    id,
                    name,
                    unit,
                    more_is_better,
                    median,
                    low,
                    high,
                    values,
                })
            });
        known.collect()
    }
}

/// The smallest, the middle and the largest of some numbers.
pub fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    };
    Some((first, median, last))
}

/// What a look inside, beside one on the host, says of what is seen.
pub fn sights(inside: &Value, host: &Value) -> Vec<Sight> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let number = |key: &str| inside[key].as_u64();
    let same = |key: &str| !inside[key].is_null() && inside[key] == host[key];
    let shared = same("boot");
    // Counts of a kernel that is not the host's are of nothing of the host.
    let counted = |key: &str, own: u64| shared && number(key).is_some_and(|count| count > own);
    let (mounted, common) = mounts(&inside["mounts"], &host["mounts"]);
    let rows = [
        ("kernel", "kernel", same("kernel") && shared),
        ("started with the host (boot id)", "boot", shared),
        ("processes", "processes", counted("processes", 2)),
        (
            "bytes of the kernel's log",
            "kernel_log",
            counted("kernel_log", 0),
        ),
        (
            "the kernel's command line",
            "command_line",
            same("command_line") && shared,
        ),
        ("memory in kB", "memory_kb", same("memory_kb") && shared),
        (
            "disks in /sys/block",
            "block_devices",
            counted("block_devices", 0),
        ),
        ("names in /dev", "devices", same("devices") && shared),
    ];
    let rows = rows.into_iter().map(|(name, key, of_host)| Sight {
        name,
        value: text(&inside[key]).map_or_else(|| "nothing".to_owned(), |text| brief(&text)),
        of_host,
    });
    let mounts = Sight {
        name: "mounts",
        value: match (shared, common) {
            (true, 1..) => format!("{mounted}, {common} of them file systems of the host"),
            _ => mounted.to_string(),
        },
        of_host: shared && common > 0,
    };
    rows.chain([mounts]).collect()
}

/// How many file systems are mounted inside, and how many of those the host has mounted, too.
fn mounts(inside: &Value, host: &Value) -> (usize, usize) {
    let empty = Vec::new();
    let inside = inside.as_array().unwrap_or(&empty);
    let host = host.as_array().unwrap_or(&empty);
    let common = inside.iter().filter(|one| host.contains(one));
    (inside.len(), common.count())
}

/// The beginning of a long text.
fn brief(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
