//! Noise from a seed: `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
//!
//! Part of the job and not of its host, so that a field belongs to the arguments alone.

/// The generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Uniform from -1 (included) to 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub fn symmetric(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 52) as f64) - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_its_published_first_numbers() {
        // The test vector of the reference implementation for the seed 1234567.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn symmetric_numbers_fill_their_interval() {
        let mut random = Random::new(1);
        let numbers: Vec<f64> = (0..10_000).map(|_| random.symmetric()).collect();
        assert!(numbers.iter().all(|number| (-1.0..1.0).contains(number)));
        // Five standard deviations of the mean.
        assert!(numbers.iter().sum::<f64>().abs() / 10_000.0 < 0.03);
    }
}
