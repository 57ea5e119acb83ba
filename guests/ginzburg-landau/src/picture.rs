//! The field as a picture: the phase is the hue, the modulus is the brightness.
//!
//! A PNG (W3C Recommendation, 2003) of eight bits a colour, one point a pixel, so that vortices
//! show as dark points around which all colours meet.

use std::io::Write;

use flate2::{Compression, Crc, write::ZlibEncoder};

use crate::complex::Complex;

/// The bytes of a picture of a square of `size` rows.
pub fn png(values: &[Complex], size: u32) -> Vec<u8> {
    let mut rows = Vec::with_capacity(values.len() * 3 + size as usize);
    for row in values.chunks_exact(size as usize) {
        // No filter: neighbours differ little, but bytes of a hue do not.
        rows.push(0);
        rows.extend(row.iter().flat_map(|value| colour(*value)));
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&rows).expect("writing to memory cannot fail");
    let compressed = encoder.finish().expect("writing to memory cannot fail");

    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&size.to_be_bytes());
    // Eight bits, true colour, and the only methods that there are.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);

    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &header);
    chunk(&mut png, *b"IDAT", &compressed);
    chunk(&mut png, *b"IEND", &[]);
    png
}

fn chunk(png: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a picture has less than 4 GiB");
    let mut crc = Crc::new();
    crc.update(&name);
    crc.update(data);
    png.extend_from_slice(&length.to_be_bytes());
    png.extend_from_slice(&name);
    png.extend_from_slice(data);
    png.extend_from_slice(&crc.sum().to_be_bytes());
}

/// Red, green and blue of a value.
fn colour(value: Complex) -> [u8; 3] {
    let sixths = value.im.atan2(value.re) / std::f64::consts::PI * 3.0;
    let brightness = value.norm_sqr().sqrt().min(1.0);
    // Each colour is brightest at its own hue and dark on the far side of the circle.
    [0.0, 2.0, 4.0].map(|hue| {
        let turned = (sixths - hue).rem_euclid(6.0);
        let distance = turned.min(6.0 - turned);
        byte(brightness * (2.0 - distance).clamp(0.0, 1.0))
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
fn byte(fraction: f64) -> u8 {
    (fraction * 255.0).round() as u8
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn phases_become_hues_and_zeros_become_black() {
        assert_eq!(colour(Complex { re: 1.0, im: 0.0 }), [255, 0, 0]);
        assert_eq!(colour(Complex { re: -1.0, im: 0.0 }), [0, 255, 255]);
        assert_eq!(colour(Complex::unit(2.0 * std::f64::consts::PI / 3.0)), [0, 255, 0]);
        assert_eq!(colour(Complex::unit(-2.0 * std::f64::consts::PI / 3.0)), [0, 0, 255]);
        assert_eq!(colour(Complex { re: 0.5, im: 0.0 }), [128, 0, 0]);
        assert_eq!(colour(Complex::ZERO), [0, 0, 0]);
    }

    #[test]
    fn the_picture_is_made_of_the_chunks_that_the_format_wants() {
        let values = [1.0, -1.0, 0.0, 0.5].map(|re| Complex { re, im: 0.0 });
        let png = png(&values, 2);
        assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
        // The checksum of an empty IEND is the same in every picture.
        assert_eq!(png[png.len() - 12..], *b"\0\0\0\0IEND\xae\x42\x60\x82");
        let data = png.windows(4).position(|name| name == b"IDAT").unwrap();
        let length = u32::from_be_bytes(png[data - 4..data].try_into().unwrap()) as usize;
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&png[data + 4..data + 4 + length])
            .read_to_end(&mut rows)
            .unwrap();
        assert_eq!(rows, [0, 255, 0, 0, 0, 255, 255, 0, 0, 0, 0, 128, 0, 0]);
    }
}
