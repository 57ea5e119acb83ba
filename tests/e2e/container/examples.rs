//! The example in JAX beside the same job as a component.

use std::{fs, path::Path};

use super::{IMAGE, Place, engine::made};
use crate::{
    guests::guest,
    support::{Running, wait_until},
};

/// The largest distance between two points of the fields. Each transform rounds differently in the last
/// of 53 bits; what that comes to in so few steps is below this by a factor of a thousand.
const TOLERANCE: f64 = 1e-10;
/// Bytes before the first point.
const HEADER_BYTES: usize = 64;

const SETTINGS: [&str; 6] = ["--size", "32", "--steps", "60", "--b", "0.5"];

#[test]
fn the_field_of_the_job_in_jax_is_that_of_the_component_within_its_tolerance() {
    let Some(place) = Place::open("the example in JAX") else { return };
    let jax = made("jax").unwrap();
    let config = place.world.path("hb.toml");
    fs::write(&config, format!("[container]\nmounts = [{:?}]\n", jax.to_str().unwrap())).unwrap();
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/examples/ginzburg_landau.py");
    let native = |job: &str| {
        let mut command = place.hb(["run", "--config", config.to_str().unwrap(), "--job-id", job]);
        command
            .args(["--image", IMAGE, "--mount", &format!("{}:/opt/jax", jax.display())])
            .args(["--env", "PYTHONPATH=/opt/jax", "--max-memory", "2GiB"])
            .args(["--input", &format!("gl.py={}", script.display()), "--checkpoint-steps", "10"])
            .args(["--", "python3", "/in/gl.py"])
            .args(SETTINGS);
        command
    };
    let printed = Running::start(&mut native("jax")).finish().ok().text();
    assert!(printed.starts_with("mean amplitude"), "{printed}");

    let component = guest("ginzburg-landau");
    let mut arguments = vec!["run", "--job-id", "wasm", &component, "--"];
    arguments.extend(SETTINGS);
    place.run(arguments).ok();
    let (ours, theirs) = (field(&place, "jax"), field(&place, "wasm"));
    assert_eq!(ours[..HEADER_BYTES], theirs[..HEADER_BYTES], "the same job");
    let distance = largest_distance(&ours[HEADER_BYTES..], &theirs[HEADER_BYTES..]);
    println!("the fields differ by at most {distance:e}");
    assert!(distance < TOLERANCE, "{distance:e}");

    // Killed with its container after a checkpoint, it goes on there and ends in the same field.
    let mut running = Running::start(&mut native("killed"));
    wait_until("a checkpoint is there", || {
        let shown = place.world.show_if_there("killed");
        shown.is_some_and(|shown| shown["checkpoints"].as_u64() >= Some(1))
    });
    running.kill();
    for id in place.engine.containers() {
        place.engine.docker(&["rm", "-f", &id]);
    }
    Running::start(&mut native("killed")).finish().ok();
    assert_eq!(field(&place, "killed"), ours);
    place.engine.is_clean();
}

fn field(place: &Place, job: &str) -> Vec<u8> {
    let artifacts = place.world.artifacts(job);
    artifacts.into_iter().find(|(name, _)| name == "field.bin").unwrap().1
}

fn largest_distance(one: &[u8], other: &[u8]) -> f64 {
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        bytes.chunks_exact(8).map(|part| f64::from_le_bytes(part.try_into().unwrap())).collect()
    };
    let pairs = numbers(one).into_iter().zip(numbers(other));
    pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f64::max)
}
