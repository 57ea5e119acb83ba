//! FASTA as a machine that is fed bytes and can stop and go on anywhere.
//!
//! Knows nothing of files and k-mers: it tells letters from what interrupts a sequence. Upper
//! and lower case are the same, lines end with or without a carriage return, and blanks within
//! a sequence mean nothing.

const OTHER_LETTER: u8 = 4;
const BLANK: u8 = 5;
const INVALID: u8 = 6;

/// What each byte means inside a sequence; 0 to 3 are A, C, G, T.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [INVALID; 256];
    let mut letter = b'A';
    while letter <= b'Z' {
        let meaning = match letter {
            b'A' => 0,
            b'C' => 1,
            b'G' => 2,
            b'T' => 3,
            _ => OTHER_LETTER,
        };
        class[letter as usize] = meaning;
        class[letter.to_ascii_lowercase() as usize] = meaning;
        letter += 1;
    }
    // A gap and a stop, as alignments and translations write them.
    class[b'-' as usize] = OTHER_LETTER;
    class[b'*' as usize] = OTHER_LETTER;
    class[b' ' as usize] = BLANK;
    class[b'\t' as usize] = BLANK;
    class[b'\r' as usize] = BLANK;
    class
}

/// Where the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the beginning of a line.
    LineStart,
    /// Within a line that names a record.
    Header,
    /// Within a line of sequence.
    Sequence,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parser {
    pub(crate) place: Place,
    /// The line that the next byte belongs to, from 1.
    pub(crate) line: u64,
    /// Records begun.
    pub(crate) records: u64,
}

/// What is no FASTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FastaError {
    /// Something stands before the first record.
    #[error("line {line} begins with {found:?} where '>' and the name of a record were expected")]
    NoHeader {
        /// The line, from 1.
        line: u64,
        /// What stands there; above 127 as Latin-1.
        found: char,
    },
    /// A byte that no sequence holds.
    #[error("line {line} holds {found:?} where a letter of a sequence was expected")]
    BadByte {
        /// The line, from 1.
        line: u64,
        /// What stands there; above 127 as Latin-1.
        found: char,
    },
    /// Nothing but blanks.
    #[error("it holds no record; at least one line that begins with '>' was expected")]
    Empty,
}

impl Parser {
    /// At the beginning of a file.
    pub fn new() -> Self {
        Self { place: Place::LineStart, line: 1, records: 0 }
    }

    /// Takes `bytes` in. `emit` is given the code of each letter, and none where the sequence is
    /// interrupted: at each record's beginning and at each letter other than A, C, G, T.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut emit: impl FnMut(Option<u64>),
    ) -> Result<(), FastaError> {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            match self.place {
                Place::Header => match rest.iter().position(|&byte| byte == b'\n') {
                    Some(end) => {
                        rest = &rest[end + 1..];
                        self.end_line();
                    }
                    None => return Ok(()),
                },
                Place::LineStart if first == b'>' => {
                    self.records += 1;
                    self.place = Place::Header;
                    emit(None);
                    rest = &rest[1..];
                }
                Place::LineStart if self.records > 0 => self.place = Place::Sequence,
                Place::LineStart => {
                    if first == b'\n' {
                        self.line += 1;
                    } else if CLASS[usize::from(first)] != BLANK {
                        return Err(FastaError::NoHeader { line: self.line, found: first.into() });
                    }
                    rest = &rest[1..];
                }
                Place::Sequence => rest = self.sequence(rest, &mut emit)?,
            }
        }
        Ok(())
    }

    /// Whether what was fed may end here.
    pub fn finish(&self) -> Result<(), FastaError> {
        if self.records == 0 { Err(FastaError::Empty) } else { Ok(()) }
    }

    /// Reads to the end of the line or of the bytes, and gives back what follows.
    #[inline]
    fn sequence<'a>(
        &mut self,
        bytes: &'a [u8],
        emit: &mut impl FnMut(Option<u64>),
    ) -> Result<&'a [u8], FastaError> {
        for (at, &byte) in bytes.iter().enumerate() {
            match CLASS[usize::from(byte)] {
                code @ 0..OTHER_LETTER => emit(Some(code.into())),
                OTHER_LETTER => emit(None),
                BLANK => {}
                _ if byte == b'\n' => {
                    self.end_line();
                    return Ok(&bytes[at + 1..]);
                }
                _ => return Err(FastaError::BadByte { line: self.line, found: byte.into() }),
            }
        }
        Ok(&[])
    }

    fn end_line(&mut self) {
        self.line += 1;
        self.place = Place::LineStart;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters as letters, interruptions as dots.
    fn read(pieces: &[&[u8]]) -> Result<String, FastaError> {
        let (mut parser, mut letters) = (Parser::new(), String::new());
        for piece in pieces {
            parser.feed(piece, |code| {
                letters.push(
                    code.map_or('.', |code| b"ACGT"[usize::try_from(code).expect("2 bits")].into()),
                );
            })?;
        }
        parser.finish()?;
        Ok(letters)
    }

    #[test]
    fn records_lines_cases_and_other_letters_are_told_apart() {
        let text = b">one two\r\nACgt\r\nNac\r\n\r\n>three>\n>four\nA C-G*T";
        assert_eq!(read(&[text]), Ok(".ACGT.AC..AC.G.T".to_owned()));
    }

    #[test]
    fn a_file_cut_anywhere_into_pieces_reads_the_same() {
        let text = b"\n \n>one\r\nACGT\nNA\n>two\nTTT\n\nGA\n";
        let whole = read(&[text]);
        assert_eq!(whole, Ok(".ACGT.A.TTTGA".to_owned()));
        for cut in 0..=text.len() {
            assert_eq!(read(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_fasta_is_refused_with_its_line() {
        for (text, expected) in [
            (&b"\nACGT\n"[..], FastaError::NoHeader { line: 2, found: 'A' }),
            (b"PK\x03\x04", FastaError::NoHeader { line: 1, found: 'P' }),
            (b">one\nAC\nA>C\n", FastaError::BadByte { line: 3, found: '>' }),
            (b">one\nAC\x00", FastaError::BadByte { line: 2, found: '\0' }),
            (b">one\nAC1", FastaError::BadByte { line: 2, found: '1' }),
            (b"", FastaError::Empty),
            (b" \r\n\n", FastaError::Empty),
        ] {
            assert_eq!(read(&[text]), Err(expected));
        }
    }

    #[test]
    fn a_record_without_sequence_is_a_record() {
        assert_eq!(read(&[b">nothing"]), Ok(".".to_owned()));
    }
}
