//! Sizes, counts and durations as people write them.
//!
//! Owns: how a quantity is read from text, and the text that reads back as the same quantity.

use std::time::Duration;

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

/// `90s`, `1h 30m`: always with units. In milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("expected a duration such as 90s or 1h30m: {error}"))?;
    u64::try_from(duration.as_millis()).map_err(|_| "that is too long".to_owned())
}

/// Text that [`parse_size`] reads as `bytes`.
pub fn show_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Text that [`parse_duration_ms`] reads as `milliseconds`.
pub fn show_duration(milliseconds: u64) -> String {
    humantime::format_duration(Duration::from_millis(milliseconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_back_as_they_are_shown() {
        for bytes in [0, 1, 1023, 1024, 1025, 64 << 20, 3 << 30, 5 << 40, u64::MAX, 1 << 63] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes), "{}", show_size(bytes));
        }
        for milliseconds in [0, 1, 999, 1000, 90_000, 3_600_000, 86_400_000, 31_557_600_001] {
            let shown = show_duration(milliseconds);
            assert_eq!(parse_duration_ms(&shown), Ok(milliseconds), "{shown}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for bad in ["", "k", "12q", "-1", "99999999999999999999", "17179869184g", "1.5M"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("64k"), Ok(65536));
        assert_eq!(parse_size("3 GiB"), Ok(3 << 30));
    }

    #[test]
    fn durations_need_their_units() {
        assert!(parse_duration_ms("90000").is_err());
        assert_eq!(parse_duration_ms("1m 30s"), Ok(90_000));
    }
}
