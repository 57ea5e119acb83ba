//! Sizes, counts and durations as people write them.
//!
//! Owns: how a quantity is read from text, and the text that reads back as the same quantity.

use std::time::Duration;

pub use hb_types::units::{parse_count, parse_size};

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
    fn durations_need_their_units() {
        assert!(parse_duration_ms("90000").is_err());
        assert_eq!(parse_duration_ms("1m 30s"), Ok(90_000));
    }
}
