//! One round: a host is started, something is done to it, and it is gone.
//!
//! Owns how each fault is brought about from without; what is done from within is `disk.rs`.

use std::{
    fs, io,
    path::PathBuf,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use hb_client::Client;

use crate::{
    ambush::{Ambush, Point, Strike, Trap},
    check::Violation,
    dice::Dice,
    fault::Fault,
    host::{Home, HostProcess, Start},
    judge,
    plan::Round,
    report::Restart,
    rot::Flip,
};

/// Segments and snapshots are small, so that both happen within a life of a moment.
pub(crate) const SEGMENT_BYTES: u64 = 2 * 1024 * 1024;
pub(crate) const SNAPSHOT_EVERY_BYTES: u64 = 96 * 1024;
/// A host that is not ready by then does not become ready.
const START_PATIENCE: Duration = Duration::from_mins(2);
/// How long a place is waited for: what it needs may not happen in this life.
const TRAP_PATIENCE: Duration = Duration::from_millis(900);
/// A segment takes a while to fill.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(5);
/// A host whose log failed ends by itself within this.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// Everything that rounds need.
pub(crate) struct Ring<'a> {
    pub home: &'a Home,
    pub client: &'a Client,
    /// The file by which a strike from within is told.
    pub struck: PathBuf,
    pub begun: Instant,
}

/// What a host is started with when nothing is to be done to it.
pub(crate) fn peaceful() -> Ambush {
    Ambush {
        segment_bytes: SEGMENT_BYTES,
        snapshot_every_bytes: SNAPSHOT_EVERY_BYTES,
        seed: 0,
        trap: None,
    }
}

impl Ring<'_> {
    /// Plays a round. A violation is what ends the experiment: the host does not come back.
    pub fn play(&self, round: &Round) -> io::Result<Result<Restart, Violation>> {
        let _ = fs::remove_file(&self.struck);
        if round.cold {
            // Derived: it is made again, by a process that can be met.
            let _ = fs::remove_dir_all(self.home.data.join("cache"));
        }
        let trap =
            round.trap.map(|(at, nth, strike)| Trap { at, nth, strike, told: self.struck.clone() });
        let begun = Instant::now();
        let mut restart = Restart::of(round, begun - self.begun);
        let mut host = self.home.start(&Ambush { seed: round.seed, trap, ..peaceful() })?;
        if round.while_starting {
            thread::sleep(round.after / 8);
            host.kill(false)?;
            "while it started".clone_into(&mut restart.place);
            restart.reached = true;
            return Ok(Ok(restart.until(self.begun.elapsed())));
        }
        // A host whose disk is full or fails while it starts lives on and says that it is not ready.
        match host.wait_ready_or(self.client, START_PATIENCE, &|| self.is_struck())? {
            Start::Ready => restart.ready_ms = Some(begun.elapsed().as_secs_f64() * 1000.0),
            Start::Struck => {}
            Start::Ended(_) if self.is_struck() => {
                restart.reached = true;
                return Ok(Ok(restart.until(self.begun.elapsed())));
            }
            Start::Ended(status) => return Ok(Err(self.not_back(&describe(status)))),
            Start::Hung => return Ok(Err(self.not_back("it did not become ready"))),
        }
        if let Err(violation) = self.strike(round, &mut host, &mut restart)? {
            return Ok(Err(violation));
        }
        drop(host);
        restart = restart.until(self.begun.elapsed());
        if round.fault == Fault::Bitrot {
            self.rot(round, &mut restart)?;
        }
        Ok(Ok(restart))
    }

    fn is_struck(&self) -> bool {
        self.struck.exists()
    }

    fn not_back(&self, how: &str) -> Violation {
        let said = self.home.last_words();
        Violation::of_host("refused", format!("the host did not come back: {how}; it said: {said}"))
    }

    fn strike(
        &self,
        round: &Round,
        host: &mut HostProcess,
        restart: &mut Restart,
    ) -> io::Result<Result<(), Violation>> {
        let Some((at, _, strike)) = round.trap else {
            if round.fault == Fault::Pause {
                thread::sleep(round.after / 2);
                host.pause(round.pause);
                thread::sleep(round.after / 2);
            } else {
                thread::sleep(round.after);
            }
            restart.reached = true;
            host.kill(round.seed & 1 == 1)?;
            return Ok(Ok(()));
        };
        match strike {
            Strike::Full | Strike::FailFlush => {
                restart.reached = self.wait_struck(host)?;
                // Only a log that failed ends a host: a blob that cannot be kept ends what needs it.
                let ends = strike == Strike::FailFlush && at == Point::BetweenWriteAndFlush;
                let patience = if ends { END_PATIENCE } else { round.after };
                let ended = if restart.reached { host.wait_end(patience)? } else { None };
                // A host whose log takes nothing any more says so and ends.
                if ended.is_none() {
                    host.kill(false)?;
                } else if ended.and_then(|status| status.code()) != Some(125) {
                    return Ok(Err(self.not_back("it ended otherwise than hosts that fail do")));
                }
            }
            Strike::Kill | Strike::Tear | Strike::PowerCut | Strike::LyingFlushes => {
                let patience =
                    if at == Point::SegmentChange { SEGMENT_PATIENCE } else { TRAP_PATIENCE };
                let ended = host.wait_end(patience + round.after)?;
                restart.reached = self.is_struck();
                match ended {
                    None => host.kill(false)?,
                    Some(status) if !restart.reached => {
                        return Ok(Err(self.not_back(&describe(status))));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(Ok(()))
    }

    /// Waits until the strike from within is told.
    fn wait_struck(&self, host: &mut HostProcess) -> io::Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < TRAP_PATIENCE {
            if self.is_struck() {
                return Ok(true);
            }
            if host.wait_end(Duration::from_millis(5))?.is_some() {
                return Ok(self.is_struck());
            }
        }
        Ok(false)
    }

    /// Flips a bit, and sees whether it is noticed. One that is noticed is flipped back, as if a
    /// copy had been fetched; one that is not stays: then it must not matter.
    fn rot(&self, round: &Round, restart: &mut Restart) -> io::Result<()> {
        let data = &self.home.data;
        let Some(flip) = Flip::make(data, &mut Dice::new(round.seed))? else { return Ok(()) };
        restart.place = flip.place(data);
        let checked = judge::command(&self.home.hb, data).args(["ledger", "check"]).output()?;
        let noticed = !checked.status.success();
        restart.noticed = Some(noticed);
        if noticed {
            flip.take_back()?;
        }
        Ok(())
    }
}

fn describe(status: ExitStatus) -> String {
    format!("it ended by itself ({status})")
}
