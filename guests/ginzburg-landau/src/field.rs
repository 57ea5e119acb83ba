//! The field and one step of its equation.
//!
//! The complex Ginzburg-Landau equation (Aranson and Kramer, Rev. Mod. Phys. 74, 99, 2002,
//! eq. 1), with no parameters but b and c left after rescaling, on a periodic square:
//!
//! ```text
//! dA/dt = A + (1 + ib) ∇²A - (1 + ic) |A|² A
//! ```
//!
//! One step is split after Strang (SIAM J. Numer. Anal. 5, 506, 1968): half a step of growth and
//! saturation, a whole step of diffusion, half a step of growth and saturation. Each part is
//! solved exactly, the first at each point in closed form, the second in Fourier space (the
//! split-step Fourier method; Weideman and Herbst, SIAM J. Numer. Anal. 23, 485, 1986). The
//! error is of second order in the step; neither part can grow beyond bounds.
//!
//! Knows nothing of files and hosts.

use crate::{
    complex::Complex,
    fft::{Fft, ratio},
    random::Random,
};

/// What determines a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Points along each side; a power of two.
    pub size: usize,
    /// Length of each side, in units of the equation.
    pub length: f64,
    /// Time of a step, in units of the equation.
    pub dt: f64,
    /// Linear dispersion.
    pub b: f64,
    /// Nonlinear dispersion.
    pub c: f64,
    /// Where the first noise comes from.
    pub seed: u64,
}

/// The field at the points of the square, row by row, and how it moves on.
#[derive(Clone, Debug)]
pub struct Field {
    /// What determines it.
    pub parameters: Parameters,
    /// `size` times `size` values.
    pub values: Vec<Complex>,
    fft: Fft,
    /// What a step of diffusion multiplies each wave with, scaled for the unscaled transform.
    diffusion: Vec<Complex>,
    /// The square of each wave number.
    wave_numbers_squared: Vec<f64>,
}

/// What is measured of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// The Ginzburg-Landau free energy for each unit of area, ⟨|∇A|² - |A|² + |A|⁴/2⟩. Where b and
    /// c are zero the equation is its gradient flow and it never rises.
    pub energy: f64,
    /// The modulus of the mean phase factor, |⟨A/|A|⟩|: 1 where all phases are equal.
    pub phase_coherence: f64,
}

impl Field {
    /// Noise of amplitude 0.1 around zero, from the seed.
    pub fn noise(parameters: Parameters) -> Self {
        let mut random = Random::new(parameters.seed);
        let values = (0..parameters.size * parameters.size)
            .map(|_| Complex { re: random.symmetric(), im: random.symmetric() } * 0.1)
            .collect();
        Self::with_values(parameters, values)
    }

    /// A field that is given.
    pub fn with_values(parameters: Parameters, values: Vec<Complex>) -> Self {
        let Parameters { size, length, dt, b, .. } = parameters;
        assert_eq!(values.len(), size * size, "a field of {size} by {size} points");
        let wave_number = |index: usize| {
            // The upper half of the indices stands for the negative waves.
            let waves = ratio(index, 1) - if index > size / 2 { ratio(size, 1) } else { 0.0 };
            2.0 * std::f64::consts::PI * waves / length
        };
        let wave_numbers_squared: Vec<f64> = (0..size)
            .flat_map(|row| (0..size).map(move |column| (row, column)))
            .map(|(row, column)| wave_number(row).powi(2) + wave_number(column).powi(2))
            .collect();
        let scale = ratio(1, size * size);
        let diffusion = wave_numbers_squared
            .iter()
            .map(|squared| Complex::unit(-b * squared * dt) * ((-squared * dt).exp() * scale))
            .collect();
        Self { parameters, values, fft: Fft::new(size), diffusion, wave_numbers_squared }
    }

    /// One step of time.
    pub fn step(&mut self) {
        self.grow();
        self.fft.forward(&mut self.values);
        for (value, factor) in self.values.iter_mut().zip(&self.diffusion) {
            *value = *value * *factor;
        }
        self.fft.backward(&mut self.values);
        self.grow();
    }

    /// Half a step of dA/dt = A - (1 + ic) |A|² A: with R = |A|² it is R' = 2 (R - R²), whose
    /// solution is logistic, and the phase turns by -c times the integral of R.
    fn grow(&mut self) {
        let growth = (0.5 * self.parameters.dt).exp();
        let gain = growth * growth - 1.0;
        let turn = -0.5 * self.parameters.c;
        for value in &mut self.values {
            let saturation = 1.0 + value.norm_sqr() * gain;
            *value = *value * Complex::unit(turn * saturation.ln()) * (growth / saturation.sqrt());
        }
    }

    /// Energy and coherence as they are now.
    pub fn measure(&self) -> Measures {
        let mut waves = self.values.clone();
        self.fft.forward(&mut waves);
        let points = ratio(self.values.len(), 1);
        // Parseval: the mean of |∇A|² is a sum over the waves.
        let gradient: f64 = waves
            .iter()
            .zip(&self.wave_numbers_squared)
            .map(|(wave, squared)| wave.norm_sqr() * squared)
            .sum::<f64>()
            / (points * points);
        let (mut potential, mut phases) = (0.0, Complex::ZERO);
        for value in &self.values {
            let squared = value.norm_sqr();
            potential += squared * (0.5 * squared - 1.0);
            // Where the field vanishes it has no phase.
            if squared > 0.0 {
                phases = phases + *value * (1.0 / squared.sqrt());
            }
        }
        Measures {
            energy: gradient + potential / points,
            phase_coherence: (phases * (1.0 / points)).norm_sqr().sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: Parameters =
        Parameters { size: 32, length: 40.0, dt: 0.1, b: 0.5, c: -1.0, seed: 1 };

    /// The plane wave A = √(1 - q²) exp(i (q x - ω t)) with ω = c + (b - c) q² solves the equation
    /// (Aranson and Kramer, eq. 7).
    fn plane_wave(parameters: Parameters, waves: usize, time: f64) -> Vec<Complex> {
        let q = 2.0 * std::f64::consts::PI * ratio(waves, 1) / parameters.length;
        let omega = parameters.c + (parameters.b - parameters.c) * q * q;
        (0..parameters.size * parameters.size)
            .map(|at| {
                let x = parameters.length * ratio(at % parameters.size, parameters.size);
                Complex::unit(q * x - omega * time) * (1.0 - q * q).sqrt()
            })
            .collect()
    }

    /// The largest distance from the exact plane wave at time 4.
    fn error(dt: f64, steps: u32) -> f64 {
        let parameters = Parameters { dt, ..PARAMETERS };
        let mut field = Field::with_values(parameters, plane_wave(parameters, 3, 0.0));
        for _ in 0..steps {
            field.step();
        }
        plane_wave(parameters, 3, dt * f64::from(steps))
            .iter()
            .zip(&field.values)
            .map(|(exact, value)| (*exact - *value).norm_sqr().sqrt())
            .fold(0.0, f64::max)
    }

    #[test]
    fn a_plane_wave_travels_as_theory_says_with_an_error_of_second_order() {
        let errors = [error(0.2, 20), error(0.1, 40), error(0.05, 80)];
        assert!(errors[2] < 1e-3, "{errors:?}");
        for pair in errors.windows(2) {
            let ratio = pair[0] / pair[1];
            assert!((3.8..4.2).contains(&ratio), "halving the step divides the error by {ratio}");
        }
    }

    #[test]
    fn a_uniform_field_turns_at_the_rate_c_exactly() {
        let mut field = Field::with_values(PARAMETERS, plane_wave(PARAMETERS, 0, 0.0));
        for _ in 0..50 {
            field.step();
        }
        for (value, exact) in field.values.iter().zip(plane_wave(PARAMETERS, 0, 5.0)) {
            assert!((*value - exact).norm_sqr() < 1e-24);
        }
        let measures = field.measure();
        assert!((measures.energy + 0.5).abs() < 1e-12, "{measures:?}");
        assert!((measures.phase_coherence - 1.0).abs() < 1e-12, "{measures:?}");
    }

    #[test]
    fn the_energy_of_a_plane_wave_is_the_one_of_its_formula() {
        let field = Field::with_values(PARAMETERS, plane_wave(PARAMETERS, 2, 0.0));
        let q = 4.0 * std::f64::consts::PI / PARAMETERS.length;
        let amplitude = 1.0 - q * q;
        let expected = amplitude * (q * q - 1.0 + 0.5 * amplitude);
        let measures = field.measure();
        assert!((measures.energy - expected).abs() < 1e-12, "{measures:?}, {expected}");
        assert!(measures.phase_coherence < 1e-12, "{measures:?}");
    }

    #[test]
    fn without_dispersion_the_energy_never_rises_and_order_grows() {
        let parameters = Parameters { b: 0.0, c: 0.0, ..PARAMETERS };
        let mut field = Field::noise(parameters);
        let first = field.measure();
        let mut energy = first.energy;
        for _ in 0..300 {
            field.step();
            let now = field.measure().energy;
            assert!(now <= energy, "the energy rose from {energy} to {now}");
            energy = now;
        }
        assert!(energy < -0.3 && first.energy > -0.1, "{first:?}, {energy}");
    }

    #[test]
    fn another_seed_is_another_field() {
        let other = Parameters { seed: 2, ..PARAMETERS };
        assert_ne!(Field::noise(PARAMETERS).values, Field::noise(other).values);
        assert_eq!(Field::noise(PARAMETERS).values, Field::noise(PARAMETERS).values);
    }
}
