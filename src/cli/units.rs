//! Sizes and times as users write and read them.

use anyhow::Context as _;

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
}
