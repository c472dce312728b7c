//! Times as users write and read them.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

/// RFC 3339 with nanoseconds, as docker prints them.
pub fn rfc3339(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(nanoseconds.into()) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => ZERO.to_owned(),
    }
}

/// Docker's way to say "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// A time of a container's life: docker's zero when it has not come yet.
pub fn rfc3339_or_zero(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        ZERO.to_owned()
    } else {
        rfc3339(nanoseconds)
    }
}

/// Nanoseconds since 1970 from an RFC 3339 time, a local date or time, seconds since 1970, or
/// a length of time before now such as `10m` or `1h30m`.
pub fn parse_time(text: &str) -> anyhow::Result<i64> {
    let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).ok();
    let wrong = || {
        format!("invalid time {text:?}, use 2026-01-02T15:04:05Z, seconds since 1970, or 10m ago")
    };
    if let Ok(seconds) = text.parse::<f64>() {
        let inside = seconds.abs() < 9e9;
        return inside.then_some((seconds * 1e9) as i64).with_context(wrong);
    }
    let parsed = if let Ok(time) = text.parse::<Timestamp>() {
        Some(time)
    } else if let Ok(length) = text.parse::<SignedDuration>() {
        Timestamp::now().checked_sub(length).ok()
    } else {
        let local = text.parse::<jiff::civil::DateTime>().ok();
        local.and_then(|time| jiff::tz::TimeZone::system().to_timestamp(time).ok())
    };
    parsed.and_then(nanoseconds).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_dockers_forms() {
        assert_eq!(parse_time("1.5").unwrap(), 1_500_000_000);
        assert_eq!(parse_time("1970-01-01T00:00:02Z").unwrap(), 2_000_000_000);
        let before = parse_time("10m").unwrap();
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
        assert!((now - before - 600_000_000_000).abs() < 60_000_000_000);
        assert!(parse_time("2026-01-02").is_ok());
        assert!(parse_time("soon").is_err());
        assert_eq!(rfc3339(1), "1970-01-01T00:00:00.000000001Z");
    }
}
