//! Text that came from a stranger, made safe to show.
//!
//! A guest chooses its function names, its messages and its metric names; shown raw they could
//! move a terminal's cursor, forge a log line or reverse the reading order.

/// `text` on one line without control or direction-changing characters, at most `max_bytes` long.
///
/// What is taken out is shown as `\u{…}`; what is cut off is announced with `…`.
pub fn printable(text: &str, max_bytes: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max_bytes));
    for character in text.chars() {
        let mark = shown.len();
        if is_unsafe(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
        if shown.len() > max_bytes {
            shown.truncate(mark);
            shown.push('…');
            break;
        }
    }
    shown
}

/// The same for bytes that may not be UTF-8.
pub fn printable_bytes(bytes: &[u8], max_bytes: usize) -> String {
    // A character takes at most four bytes, so what is cut here could never be shown.
    let head = &bytes[..bytes.len().min(max_bytes.saturating_add(4))];
    printable(&String::from_utf8_lossy(head), max_bytes)
}

/// Control characters, line and paragraph separators, zero-width and bidirectional controls.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_line_breaks_and_reversed_text_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{202e}d", 100), "a\\u{1b}[31mb\\u{a}c\\u{202e}d");
    }

    #[test]
    fn long_text_is_cut_on_a_character_boundary_and_says_so() {
        assert_eq!(printable("ééééé", 5), "éé…");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_replacement_characters() {
        assert_eq!(printable_bytes(b"ok\xff\x00", 20), "ok\u{fffd}\\u{0}");
    }
}
