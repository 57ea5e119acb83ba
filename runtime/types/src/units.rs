//! Sizes, counts, durations and times as people write them.
//!
//! Owns the grammar, once for flags, manifests and configuration files. Knows nothing of what the
//! numbers are for.

/// `4096`, `64k`, `512MiB`, `2 GiB`: multiples of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text[digits.len()..].to_ascii_lowercase();
    let shift = match suffix.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => {
            return Err("expected a number of bytes such as 4096, 64KiB, 512MiB or 2GiB".to_owned());
        }
    };
    let number = parse_count(digits.trim_end())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than 2^64 bytes".to_owned())
}

/// `1000000` or `1_000_000`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| "expected a whole number such as 1_000_000".to_owned())
}

/// `90s`, `1h 30m`, or a plain number of seconds.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => std::time::Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|error| format!("expected a duration such as 90s or 1h30m: {error}"))?,
    };
    u64::try_from(duration.as_millis()).map_err(|_| "that is too long".to_owned())
}

/// `2026-11-24T06:00:00Z` as nanoseconds since the Unix epoch.
pub fn parse_time_ns(text: &str) -> Result<u64, String> {
    let wrong = || "expected a time such as 2026-11-24T06:00:00Z, between 1970 and 2554".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| wrong())?;
    u64::try_from(since.as_nanos()).map_err(|_| wrong())
}

/// Nanoseconds since the Unix epoch as `2026-11-24T06:00:00.123456Z`.
pub fn show_time(ns: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(ns);
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for bad in ["", "k", "12q", "-1", "99999999999999999999", "17179869184g", "1.5M"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("64k"), Ok(65536));
        assert_eq!(parse_size("3GiB"), Ok(3 << 30));
    }

    #[test]
    fn times_are_read_as_they_are_shown() {
        for ns in [0, 946_684_800_000_000_000, 1_795_000_000_123_456_000] {
            assert_eq!(parse_time_ns(&show_time(ns)), Ok(ns));
        }
        for bad in ["", "now", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(parse_time_ns(bad).is_err(), "{bad}");
        }
    }
}
