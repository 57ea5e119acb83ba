//! Promise 1 and 2: a job that is killed a hundred times ends as if nothing had happened.

use std::time::{Duration, Instant};

use crate::support::{Moments, Ran, Running, World};

/// A job of which the tests kill a hundred attempts.
pub struct Victim<'a> {
    /// For messages and the choice of moments.
    pub name: &'a str,
    /// The guest's path.
    pub module: &'a str,
    /// Flags of `hb run`, the job id apart.
    pub flags: &'a [&'a str],
    /// Arguments of the job.
    pub arguments: &'a [&'a str],
    /// Kills to survive.
    pub kills: u32,
    /// How many of them must at least meet a running attempt; otherwise nothing was shown.
    pub least_crashes: u32,
}

/// Runs the job undisturbed, then kills it and starts it again until the kills are used up, and
/// demands that both are the same to the last byte; then that both verifications say so.
pub fn survives(victim: &Victim<'_>) {
    let undisturbed = compiled(victim);
    let begun = Instant::now();
    run(&undisturbed, victim).finish_any();
    let whole = begun.elapsed();
    let expected = undisturbed.result("job");

    let seed = u64::from(std::process::id()) ^ u64::from(begun.elapsed().subsec_nanos());
    println!("{}: seed {seed}, undisturbed in {whole:?}", victim.name);
    let mut moments = Moments::new(seed);
    // Moments are spread over the start of the process and the work. A job that ends before its
    // kills are used up is begun anew with earlier ones.
    let mut latest = whole.min(Duration::from_millis(400));
    let world = loop {
        let world = compiled(victim);
        if kill_often(&world, victim, latest, &mut moments) {
            break world;
        }
        latest = latest * 3 / 4;
    };
    let last = run(&world, victim).finish_any();
    assert_eq!(last.stdout, expected.stdout, "the last run prints everything, seed {seed}");
    assert_eq!(world.result("job"), expected, "{} killed, seed {seed}", victim.name);
    let shown = world.show("job");
    println!(
        "{}: {} kills up to {latest:?}, attempts {}, crashes {}, checkpoints {}",
        victim.name, victim.kills, shown["attempts"], shown["crashes"], shown["checkpoints"]
    );
    assert!(shown["crashes"].as_u64().unwrap() >= u64::from(victim.least_crashes), "{shown}");
    for mode in [&["verify", "job"][..], &["verify", "--checkpoints", "job"]] {
        let said = world.run(mode).ok().text();
        assert!(said.starts_with("same"), "{said}");
    }
    world.run(["ledger", "check"]).ok();
}

/// A ledger for which the guest is compiled already, so that kills meet the guest and not the
/// compiler: the guest has been run once, with something that it ends on at once.
fn compiled(victim: &Victim<'_>) -> World {
    let world = World::new();
    let ran = world.run(["run", "--job-id", "compiled", victim.module, "--", "0", "0"]);
    assert!(ran.code.is_some_and(|code| code != 125), "{}", ran.stderr);
    world
}

/// Kills the job's process as often as asked for; false when the job ended before.
fn kill_often(world: &World, victim: &Victim<'_>, latest: Duration, moments: &mut Moments) -> bool {
    let mut kills = 0;
    // On a machine that has other things to do, many a kill comes before the job: then more of them.
    while kills < victim.kills
        || (kills < victim.kills * 5 && crashes(world) < victim.least_crashes)
    {
        let mut running = run(world, victim);
        std::thread::sleep(moments.next(latest));
        if !running.kill() {
            return false;
        }
        kills += 1;
    }
    true
}

fn crashes(world: &World) -> u32 {
    let shown = world.show_if_there("job");
    shown.map_or(0, |shown| u32::try_from(shown["crashes"].as_u64().unwrap()).unwrap())
}

fn run(world: &World, victim: &Victim<'_>) -> Running {
    let arguments = ["run", "--job-id", "job"].iter().chain(victim.flags);
    let arguments = arguments.chain([&victim.module, &"--"]).chain(victim.arguments);
    Running::start(&mut world.hb(arguments))
}

impl Running {
    /// Waits for an end with an outcome, whatever it is.
    #[track_caller]
    pub fn finish_any(self) -> Ran {
        let ran = self.finish();
        assert!(ran.code.is_some_and(|code| code != 125), "hb failed: {}", ran.stderr);
        ran
    }
}
