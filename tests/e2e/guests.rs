//! Every guest survives a hundred kills. A guest that is not named here does not compile.

use std::path::Path;

use crate::{
    kills::{Victim, survives},
    support::data_file,
};

/// The path of a built guest.
pub fn guest(name: &str) -> String {
    // Naming the crate makes cargo build the guests before this test.
    let directory = hb_guests::HELLO.path().parent().unwrap().to_owned();
    directory.join(format!("{name}.wasm")).to_str().unwrap().to_owned()
}

/// Kills that each guest survives.
const KILLS: u32 = 100;

fn input(name: &str) -> String {
    format!("genome={}", data_file(name).display())
}

#[test]
fn hello() {
    survives(&Victim {
        name: "hello",
        arguments: &[&guest("hello"), "--", "one", "two"],
        kills: KILLS,
    });
}

#[test]
fn counter() {
    let arguments = [&guest("counter"), "--", "--steps", "400", "--work", "2"];
    survives(&Victim { name: "counter", arguments: &arguments, kills: KILLS });
}

#[test]
fn kmer() {
    let (every, input) = (["--checkpoint-every", "30ms"], input("ecoli_536.fna.gz"));
    let arguments = [every[0], every[1], "--input", &input, &guest("kmer"), "--", "-k", "21"];
    survives(&Victim { name: "kmer", arguments: &arguments, kills: KILLS });
}

#[test]
fn ginzburg_landau() {
    let every = ["--checkpoint-every", "20ms"];
    let steps = ["--size", "64", "--steps", "1500", "--b", "2", "--c", "-2"];
    let guest = guest("ginzburg-landau");
    let arguments: Vec<&str> =
        every.into_iter().chain([guest.as_str(), "--"]).chain(steps).collect();
    survives(&Victim { name: "ginzburg-landau", arguments: &arguments, kills: KILLS });
}

#[test]
fn greedy() {
    let arguments = [&guest("greedy"), "--", "after-checkpoint", "1000"];
    survives(&Victim { name: "greedy", arguments: &arguments, kills: KILLS });
}

#[test]
fn sieve() {
    if hb_guests::SIEVE.is_skipped() {
        return;
    }
    let arguments = [&guest("sieve"), "--", "20000000", "42"];
    survives(&Victim { name: "sieve", arguments: &arguments, kills: KILLS });
    assert!(Path::new(&guest("sieve")).is_file());
}

hb_guests::foreach_guest!();
