//! Lines on standard output that older jobs print to be noticed.
//!
//! Owns: how such a line is recognised in a stream of bytes. Knows nothing of what becomes of it.

use hb_types::text::printable_bytes;

/// What such a line begins with.
const MARKER: &[u8] = b"[D1_STABLE]";
/// Bytes of a line that are kept.
const LINE_BYTES: usize = 4096;

/// Finds marker lines in what is printed, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    line: Vec<u8>,
    /// Whether the present line is longer than what is kept of it.
    is_cut: bool,
}

impl Markers {
    /// The marker lines that end in these bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if self.line.starts_with(MARKER) {
                let mut text = printable_bytes(self.line.trim_ascii_end(), LINE_BYTES);
                if self.is_cut {
                    text.push('…');
                }
                found.push(text);
            }
            *self = Self::default();
        }
        self.extend(bytes);
        found
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES - self.line.len();
        self.is_cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_lines_are_found_whole_wherever_the_bytes_are_cut() {
        let text = b"a [D1_STABLE] no\n[D1_STABLE] step 1\r\nplain\n[D1_STABLE] step 2\n[D1_STABLE";
        for size in 1..text.len() {
            let mut markers = Markers::default();
            let found: Vec<String> =
                text.chunks(size).flat_map(|piece| markers.feed(piece)).collect();
            assert_eq!(found, ["[D1_STABLE] step 1", "[D1_STABLE] step 2"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept_whole() {
        let mut markers = Markers::default();
        assert!(markers.feed(&vec![b'x'; 1 << 20]).is_empty());
        assert!(markers.line.len() <= LINE_BYTES);
        assert_eq!(markers.feed(b"\n[D1_STABLE] on\n"), ["[D1_STABLE] on"]);
    }
}
