//! A field as bytes: the layout of `field.bin` and of a checkpoint's state, which are the same.
//!
//! Eight fields of eight bytes, little-endian: magic `HBCGLE01`, points along a side (u64), steps
//! done (u64), length of a side, time of a step, b, c (f64), seed (u64). Then each point, row by
//! row: real part, imaginary part (f64).

use crate::{
    complex::Complex,
    field::{Field, Parameters},
};

const MAGIC: [u8; 8] = *b"HBCGLE01";
/// Bytes before the first point.
pub const HEADER_BYTES: usize = 64;

/// Bytes that are no field of this job.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BytesError {
    /// Other bytes.
    #[error(
        "{found} bytes that begin with {magic:?} are no field of {expected} bytes that begins with \"HBCGLE01\""
    )]
    Malformed {
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
        /// How they begin.
        magic: String,
    },
    /// A field with other parameters.
    #[error("it was made with {found:?}, and this job has {expected:?}")]
    OtherParameters {
        /// This job's.
        expected: Parameters,
        /// The field's.
        found: Parameters,
    },
}

/// The bytes of a field after so many steps.
pub fn encode(field: &Field, steps: u64) -> Vec<u8> {
    let Parameters { size, length, dt, b, c, seed } = field.parameters;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 16 * field.values.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(size as u64).to_le_bytes());
    bytes.extend_from_slice(&steps.to_le_bytes());
    for number in [length, dt, b, c] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&seed.to_le_bytes());
    for value in &field.values {
        bytes.extend_from_slice(&value.re.to_le_bytes());
        bytes.extend_from_slice(&value.im.to_le_bytes());
    }
    bytes
}

/// The field with these parameters, and how many steps it has done.
pub fn decode(bytes: &[u8], expected: Parameters) -> Result<(Field, u64), BytesError> {
    let length = HEADER_BYTES + 16 * expected.size * expected.size;
    let (words, _) = bytes.as_chunks::<8>();
    if bytes.len() != length || words[0] != MAGIC {
        let magic = bytes.iter().take(8).map(|byte| char::from(*byte)).collect();
        return Err(BytesError::Malformed { expected: length, found: bytes.len(), magic });
    }
    let (whole, real) =
        (|at: usize| u64::from_le_bytes(words[at]), |word: &[u8; 8]| f64::from_le_bytes(*word));
    let found = Parameters {
        size: usize::try_from(whole(1)).unwrap_or(usize::MAX),
        length: real(&words[3]),
        dt: real(&words[4]),
        b: real(&words[5]),
        c: real(&words[6]),
        seed: whole(7),
    };
    if found != expected {
        return Err(BytesError::OtherParameters { expected, found });
    }
    let values = words[HEADER_BYTES / 8..]
        .chunks_exact(2)
        .map(|pair| Complex { re: real(&pair[0]), im: real(&pair[1]) })
        .collect();
    Ok((Field::with_values(expected, values), whole(2)))
}
