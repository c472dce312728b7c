//! Sizes and times as docker shows them to people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A size in decimal units with three significant digits, as tables show it: `1.23GB`.
pub fn size(bytes: u64) -> String {
    sized(bytes, 3)
}

/// A size with four significant digits, as sentences have it: `12.35MB`.
pub fn exact_size(bytes: u64) -> String {
    sized(bytes, 4)
}

/// A size in binary units with four significant digits, as `stats` has it: `12.35MiB`.
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let text = if value < 1000.0 {
        significant(value, 4)
    } else {
        format!("{value:.0}")
    };
    format!("{text}{}", UNITS[unit])
}

fn sized(bytes: u64, digits: usize) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), UNITS[unit])
}

/// A number below 1000 as C's `%.Ng` prints it.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: usize = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent >= digits {
        return format!("{}e+{exponent:02}", trim(mantissa));
    }
    trim(&format!("{value:.*}", digits - 1 - exponent))
}

/// A span of time, roughly: `About an hour`, `3 weeks`.
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A span of nanoseconds, roughly.
pub fn duration_ns(nanoseconds: i64) -> String {
    duration(nanoseconds.div_euclid(1_000_000_000))
}

/// How long ago an instant was, given in nanoseconds since 1970: `2 minutes ago`.
pub fn ago_ns(nanoseconds: i64) -> String {
    ago(Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default())
}

/// How long ago an instant was: `2 minutes ago`.
pub fn ago(then: Timestamp) -> String {
    format!(
        "{} ago",
        duration(Timestamp::now().as_second() - then.as_second())
    )
}

/// An instant in the local time zone as Go prints it: `2024-05-01 12:00:00 +0200 CEST`.
pub fn local_time(instant: Timestamp) -> String {
    instant
        .to_zoned_datetime(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S %z %Z")
        .to_string()
}

/// An instant in the local time zone in the form of RFC 3339, as `history --human=false` has it.
pub fn rfc3339_local(instant: Timestamp) -> String {
    let zoned = instant.to_zoned_datetime(TimeZone::system());
    match zoned.offset().is_zero() {
        true => zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        false => zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_look_like_dockers() {
        for (bytes, table, sentence) in [
            (0, "0B", "0B"),
            (7, "7B", "7B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1234, "1.23kB", "1.234kB"),
            (12_345, "12.3kB", "12.35kB"),
            (124_000_000, "124MB", "124MB"),
            (1_222_000_000, "1.22GB", "1.222GB"),
            (999_700, "1e+03kB", "999.7kB"),
            (u64::MAX, "18.4EB", "18.45EB"),
        ] {
            assert_eq!(size(bytes), table);
            assert_eq!(exact_size(bytes), sentence);
        }
    }

    #[test]
    fn binary_sizes_look_like_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (1 << 10, "1KiB"),
            (1023 << 10, "1023KiB"),
            (512 << 20, "512MiB"),
            ((7 << 20) + (1 << 19), "7.5MiB"),
            (31 << 30, "31GiB"),
        ] {
            assert_eq!(binary_size(bytes), expected);
        }
    }

    #[test]
    fn times_look_like_dockers() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (90 * 60, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (15 * DAY, "2 weeks"),
            (61 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }
}
