//! Figures: each program in `src/bin` measures one thing beside something comparable, and prints
//! ratios. Nothing depends on this crate, and no test asserts a time.
