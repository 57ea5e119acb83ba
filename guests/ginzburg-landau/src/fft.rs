//! The discrete Fourier transform of a square, its side a power of two.
//!
//! The radix-2 method of Cooley and Tukey (Math. Comput. 19, 297, 1965), in place. Knows nothing
//! of physics. Unscaled in both directions: there and back multiplies by the number of points.

use crate::complex::Complex;

/// Everything that can be computed beforehand for one length.
#[derive(Clone, Debug)]
pub struct Fft {
    size: usize,
    /// exp(-2πi m / size) for m below size / 2.
    roots: Vec<Complex>,
    /// Where the bit-reversed index lies above the index: the pairs to exchange.
    exchanges: Vec<(usize, usize)>,
}

impl Fft {
    /// For rows of `size` points, a power of two of at least 2.
    pub fn new(size: usize) -> Self {
        assert!(size.is_power_of_two() && size >= 2, "the length {size} is no power of two");
        let bits = size.trailing_zeros();
        let roots = (0..size / 2)
            .map(|m| Complex::unit(-2.0 * std::f64::consts::PI * ratio(m, size)))
            .collect();
        let exchanges = (0..size)
            .map(|index| (index, index.reverse_bits() >> (usize::BITS - bits)))
            .filter(|(index, reversed)| index < reversed)
            .collect();
        Self { size, roots, exchanges }
    }

    /// Transforms a square of `size` rows of `size` points. The result is transposed, which
    /// saves a way through memory and means nothing to a factor that is symmetric in both
    /// wave numbers; the second transform puts it right.
    pub fn forward(&self, square: &mut [Complex]) {
        self.rows(square, false);
        self.transpose(square);
        self.rows(square, false);
    }

    /// The way back, unscaled, from a transposed square.
    pub fn backward(&self, square: &mut [Complex]) {
        self.rows(square, true);
        self.transpose(square);
        self.rows(square, true);
    }

    fn rows(&self, square: &mut [Complex], back: bool) {
        assert_eq!(square.len(), self.size * self.size, "no square of this size");
        for row in square.chunks_exact_mut(self.size) {
            self.row(row, back);
        }
    }

    fn row(&self, row: &mut [Complex], back: bool) {
        for &(left, right) in &self.exchanges {
            row.swap(left, right);
        }
        let mut half = 1;
        while half < self.size {
            let stride = self.size / (2 * half);
            for block in row.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for (at, (low, high)) in low.iter_mut().zip(high).enumerate() {
                    let root = self.roots[at * stride];
                    let root = if back { root.conjugate() } else { root };
                    let turned = *high * root;
                    (*low, *high) = (*low + turned, *low - turned);
                }
            }
            half *= 2;
        }
    }

    fn transpose(&self, square: &mut [Complex]) {
        for row in 0..self.size {
            for column in row + 1..self.size {
                square.swap(row * self.size + column, column * self.size + row);
            }
        }
    }
}

/// A quotient of two small numbers.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
pub fn ratio(numerator: usize, denominator: usize) -> f64 {
    numerator as f64 / denominator as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn noise(size: usize) -> Vec<Complex> {
        let mut random = Random::new(7);
        (0..size * size)
            .map(|_| Complex { re: random.symmetric(), im: random.symmetric() })
            .collect()
    }

    /// The definition, transposed as the fast way leaves it.
    fn slow(square: &[Complex], size: usize) -> Vec<Complex> {
        let mut result = Vec::new();
        for column in 0..size {
            for row in 0..size {
                let mut sum = Complex::ZERO;
                for y in 0..size {
                    for x in 0..size {
                        let turn = ratio(row * y + column * x, size);
                        let root = Complex::unit(-2.0 * std::f64::consts::PI * turn);
                        sum = sum + square[y * size + x] * root;
                    }
                }
                result.push(sum);
            }
        }
        result
    }

    #[test]
    fn the_fast_transform_is_the_transform() {
        for size in [2, 4, 8, 16] {
            let square = noise(size);
            let mut fast = square.clone();
            Fft::new(size).forward(&mut fast);
            for (fast, slow) in fast.iter().zip(slow(&square, size)) {
                assert!((*fast - slow).norm_sqr() < 1e-20, "size {size}");
            }
        }
    }

    #[test]
    fn there_and_back_multiplies_by_the_number_of_points() {
        let size = 64;
        let square = noise(size);
        let mut there_and_back = square.clone();
        let fft = Fft::new(size);
        fft.forward(&mut there_and_back);
        fft.backward(&mut there_and_back);
        for (result, before) in there_and_back.iter().zip(square) {
            assert!((*result * (1.0 / 4096.0) - before).norm_sqr() < 1e-26);
        }
    }
}
