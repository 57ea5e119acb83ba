//! Text.
fn main() {}
