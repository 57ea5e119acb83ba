//! Exit codes of guests.

/// The byte that stands for an exit code: its low byte, as POSIX has it, except that a failure
/// never looks like success, so 256 becomes 1.
pub(crate) fn low_byte(code: u32) -> u8 {
    let [low, ..] = code.to_le_bytes();
    if low == 0 && code != 0 { 1 } else { low }
}

#[cfg(test)]
mod tests {
    use super::low_byte;

    #[test]
    fn success_stays_success_and_no_failure_becomes_one() {
        let codes = [0, 1, 42, 255, 256, 257, 300, 512, u32::MAX];
        assert_eq!(codes.map(low_byte), [0, 1, 42, 255, 1, 1, 44, 1, 255]);
    }
}
