//! Every guest survives a hundred kills. A guest that is not named here does not compile.

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

#[test]
fn hello() {
    killed("hello", &[], &["one", "two"]);
}

#[test]
fn counter() {
    killed("counter", &[], &["--steps", "300", "--work", "2"]);
}

#[test]
fn kmer() {
    let input = format!("genome={}", data_file("ecoli_536.fna.gz").display());
    killed("kmer", &["--checkpoint-every", "30ms", "--input", &input], &["-k", "21"]);
}

#[test]
fn ginzburg_landau() {
    let steps = ["--size", "64", "--steps", "1500", "--b", "2", "--c", "-2"];
    killed("ginzburg-landau", &["--checkpoint-every", "20ms"], &steps);
}

#[test]
fn greedy() {
    killed("greedy", &[], &["after-checkpoint", "1000"]);
}

#[test]
fn sieve() {
    if !hb_guests::SIEVE.is_skipped() {
        killed("sieve", &[], &["20000000", "42"]);
    }
}

fn killed(name: &str, flags: &[&str], arguments: &[&str]) {
    // `hello` is done within a millisecond of its start: most kills meet the host around it.
    let least_crashes = if name == "hello" { 0 } else { KILLS / 5 };
    let module = &guest(name);
    survives(&Victim { name, module, flags, arguments, kills: KILLS, least_crashes });
}

hb_guests::foreach_guest!();
