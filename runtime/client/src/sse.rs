//! The format of server-sent events (WHATWG HTML, "Server-sent events").
//!
//! Owns: how bytes become frames, in whatever pieces they arrive. Knows nothing of connections or
//! of what events mean.
//!
//! Invariants: a frame that has not ended is never given; what is held has a bound; the id that a
//! frame carries is the newest one up to it, also where the frame itself has none.

/// The longest line, and the most data of one frame.
const FRAME_BYTES: usize = 8 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its name; `message` where the server gave none.
    pub event: String,
    /// Its data, lines joined by line feeds.
    pub data: String,
    /// The newest id up to here.
    pub id: String,
}

/// A frame without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {FRAME_BYTES} bytes")]
pub struct FrameTooLong;

/// Reads a stream of events piece by piece.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has not ended.
    line: Vec<u8>,
    /// Whether the last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    /// Whether the first line is behind us, before which a byte order mark may stand.
    past_mark: bool,
    event: String,
    data: String,
    has_data: bool,
    id: String,
    retry_ms: Option<u64>,
}

impl Parser {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and adds the frames that end in them to `frames`.
    pub fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameTooLong> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, ended) = (&rest[..end.unwrap_or(rest.len())], end.is_some());
            if self.line.len() + part.len() > FRAME_BYTES {
                return Err(FrameTooLong);
            }
            self.line.extend_from_slice(part);
            rest = &rest[part.len()..];
            if ended {
                self.after_return = rest[0] == b'\r';
                rest = &rest[1..];
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, frames)?;
                // The room is used again.
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// How long the server wants to be left alone after a broken connection.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn end_line(&mut self, line: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameTooLong> {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.past_mark => rest,
            _ => line,
        };
        self.past_mark = true;
        if line.is_empty() {
            self.end_frame(frames);
            return Ok(());
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            // A comment, which only shows that somebody is there.
            Some(0) => return Ok(()),
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            b"event" => self.event = value.into_owned(),
            b"data" => {
                if self.data.len() + value.len() + 1 > FRAME_BYTES {
                    return Err(FrameTooLong);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(&value);
            }
            b"id" if !value.contains('\0') => self.id = value.into_owned(),
            b"retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
        Ok(())
    }

    fn end_frame(&mut self, frames: &mut Vec<Frame>) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        // A frame without data is none, by the standard.
        if std::mem::take(&mut self.has_data) {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            frames.push(Frame { event, data, id: self.id.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<Frame> {
        let (mut parser, mut frames) = (Parser::new(), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut frames).unwrap();
        }
        frames
    }

    fn frame(event: &str, data: &str, id: &str) -> Frame {
        Frame { event: event.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn a_frame_has_a_name_data_and_an_id() {
        let text = b"event: started\nid: 7:0:0\ndata: {\"a\":\ndata:1}\n\ndata: x\n\n";
        let expected = [frame("started", "{\"a\":\n1}", "7:0:0"), frame("message", "x", "7:0:0")];
        assert_eq!(parse(&[text]), expected);
    }

    #[test]
    fn lines_may_end_in_any_of_three_ways_and_a_mark_may_stand_before_them() {
        for end in ["\n", "\r", "\r\n"] {
            let text = format!("\u{feff}event: e{end}data: 1{end}{end}data: 2{end}{end}");
            let expected = [frame("e", "1", ""), frame("message", "2", "")];
            assert_eq!(parse(&[text.as_bytes()]), expected, "{end:?}");
        }
        assert_eq!(parse(&["data: 1\r".as_bytes(), b"\n", b"\r", b"\n"]).len(), 1);
    }

    #[test]
    fn comments_unknown_fields_and_frames_without_data_give_nothing() {
        let text = b": alive\n\nevent: x\n\nwhat: 1\n:\ndatax: 2\nid: 4\n\ndata\n\n";
        assert_eq!(parse(&[text]), [frame("message", "", "4")]);
    }

    #[test]
    fn a_frame_that_has_not_ended_is_not_given_and_neither_is_its_id() {
        let (mut parser, mut frames) = (Parser::new(), Vec::new());
        parser.push(b"id: 1\ndata: a\n\nid: 2\ndata: b\n", &mut frames).unwrap();
        assert_eq!(frames, [frame("message", "a", "1")]);
    }

    #[test]
    fn the_pause_is_taken_only_where_it_is_a_number() {
        let (mut parser, mut frames) = (Parser::new(), Vec::new());
        parser.push(b"retry: 250\nretry: soon\nretry: -1\n", &mut frames).unwrap();
        assert_eq!(parser.retry_ms(), Some(250));
        parser.push(b"retry: 99999999999999999999999\n", &mut frames).unwrap();
        assert_eq!(parser.retry_ms(), Some(250));
    }

    #[test]
    fn a_frame_without_an_end_is_refused_at_a_bound() {
        let (mut parser, mut frames) = (Parser::new(), Vec::new());
        let piece = vec![b'a'; 1024 * 1024];
        let refused = (0..9).any(|_| parser.push(&piece, &mut frames).is_err());
        assert!(refused, "one line");
        let mut parser = Parser::new();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let refused = (0..9).any(|_| parser.push(&line, &mut frames).is_err());
        assert!(refused, "many lines");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_pieces_the_frames_are_the_same(
            text in "(event|data|id|retry|:|: |\u{feff}|[a-z]|\r|\n|\r\n|\0|\u{e9}){0,80}",
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&pieces), parse(&[bytes]));
        }

        #[test]
        fn no_bytes_break_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&[&bytes]);
        }
    }
}
