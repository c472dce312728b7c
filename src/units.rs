//! Sizes and times as users write and read them.

use anyhow::Context as _;
use jiff::SignedDuration;

/// Bytes from `512m`, `1.5g`, `1024`, `64mb`, `2GiB`; units are powers of 1024, as docker's.
pub fn parse_bytes(text: &str) -> anyhow::Result<u64> {
    let wrong = || format!("invalid size {text:?}, use a number with b, k, m, g or t, as in 512m");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(anyhow::anyhow!(wrong())),
    };
    let number: f64 = number.parse().with_context(wrong)?;
    let bytes = number * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift - shift / 2));
    if bytes.is_finite() && bytes < 9e18 {
        Ok(bytes as u64)
    } else {
        Err(anyhow::anyhow!(wrong()))
    }
}

/// Nanoseconds from a length of time as Go writes it: `5s`, `1m30s`, `500ms`, `0`.
pub fn parse_duration(text: &str) -> anyhow::Result<i64> {
    let wrong =
        || format!("invalid length of time {text:?}, use a number with ms, s, m or h, as in 30s");
    if text == "0" {
        return Ok(0);
    }
    // The library also reads words and signs, which docker does not.
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
        && !text.contains(' ');
    let parsed = text.parse::<SignedDuration>().ok().filter(|_| plain);
    let nanoseconds = parsed.and_then(|length| i64::try_from(length.as_nanos()).ok());
    nanoseconds.with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("1024", 1024),
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("2GiB", 2 << 30),
            ("10kb", 10 << 10),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "m", "1x", "-1m", "1..2", "99999999999t", "1e3"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_as_docker_reads_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2h", 7_200_000),
        ] {
            let expected = milliseconds * 1_000_000;
            assert_eq!(parse_duration(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "5", "s", "soon", "5 s", "1x"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
