//! Seeds that found a mistake, by name. A seed stands for its history only as long as histories are
//! drawn in the same way; each mistake also has a test of its own where it was.
#![allow(clippy::unwrap_used)]

/// What the histories found, and their seeds.
const FOUND: &[(u64, &str)] = &[(
    51_188,
    "a job was accepted although the name of its component was not durable: the flush of the \
     directory had failed, and the submission saw the name",
)];

#[test]
fn mistakes_that_were_found_stay_mended() {
    for (seed, story) in FOUND {
        if let Err(violation) = hb_sim::run(*seed) {
            panic!("{story}: {violation}");
        }
    }
}
