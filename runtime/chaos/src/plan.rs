//! What is done to a host, round by round, as it follows from a seed.
//!
//! Owns the mix of faults and places; knows nothing of how they are brought about.

use std::time::Duration;

use crate::{
    ambush::{Point, Strike},
    dice::Dice,
    fault::Fault,
};

/// The longest that a host is left alone before something is done to it.
const LONGEST: Duration = Duration::from_millis(450);
const PAUSE_LONGEST: Duration = Duration::from_millis(700);

/// One life of a host, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number, from 1.
    pub number: u32,
    /// What is done.
    pub fault: Fault,
    /// Where, when it is done from within: the place, at which such place, and how.
    pub trap: Option<(Point, u64, Strike)>,
    /// When it is done from without, counted from when the host is ready; with a trap, how long
    /// after it the host is killed at the latest.
    pub after: Duration,
    /// How long the process is stopped.
    pub pause: Duration,
    /// Whether the host is killed while it starts, and not when it is ready.
    pub while_starting: bool,
    /// Whether the cache of compiled components is removed before, so that the compiling process
    /// is met too.
    pub cold: bool,
    /// Decides everything else in it.
    pub seed: u64,
}

/// All rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In their order.
    pub rounds: Vec<Round>,
}

impl Plan {
    /// The plan of a seed: the same for the same arguments.
    pub fn new(seed: u64, kills: u32, faults: &[Fault]) -> Self {
        let mut dice = Dice::new(seed);
        let mut chosen = 0;
        let rounds = (1..=kills).map(|number| {
            // A kill as often as everything else together: it is what happens most.
            let others: Vec<Fault> =
                faults.iter().copied().filter(|fault| *fault != Fault::Kill).collect();
            let kill = faults.contains(&Fault::Kill) && (others.is_empty() || dice.coin());
            let fault = if kill { Fault::Kill } else { dice.pick(&others) };
            let trap = trap(fault, &mut chosen, &mut dice);
            Round {
                number,
                fault,
                trap,
                after: dice.duration(Duration::ZERO, LONGEST),
                pause: dice.duration(Duration::from_millis(20), PAUSE_LONGEST),
                while_starting: fault == Fault::Kill && trap.is_none() && dice.below(5) == 0,
                cold: dice.below(12) == 0,
                seed: dice.number(),
            }
        });
        Self { rounds: rounds.collect() }
    }
}

fn trap(fault: Fault, chosen: &mut usize, dice: &mut Dice) -> Option<(Point, u64, Strike)> {
    let (point, strike) = match fault {
        Fault::Kill => {
            if dice.coin() {
                return None;
            }
            *chosen += 1;
            (Point::CHOSEN[*chosen % Point::CHOSEN.len()], Strike::Kill)
        }
        Fault::Torn => {
            (dice.pick(&[Point::LogWrite, Point::Snapshot, Point::Recovery]), Strike::Tear)
        }
        Fault::Full => (dice.pick(&[Point::LogWrite, Point::Recovery]), Strike::Full),
        Fault::Power => (dice.pick(&Point::CHOSEN), Strike::PowerCut),
        Fault::Flush => (dice.pick(&[Point::BetweenWriteAndFlush, Point::Blob]), Strike::FailFlush),
        Fault::Lie => (Point::BetweenFlushAndAnswer, Strike::LyingFlushes),
        Fault::Bitrot | Fault::Pause => return None,
    };
    Some((point, nth(point, dice), strike))
}

/// At which such place: as far into a life as there are such places, early ones more often.
fn nth(point: Point, dice: &mut Dice) -> u64 {
    let doublings = match point {
        // One takes as long as a life may last.
        Point::SegmentChange => 0,
        Point::Removal => 2,
        Point::BeforeRename | Point::AfterRename | Point::Blob => 3,
        Point::Snapshot => 4,
        Point::BetweenWriteAndFlush | Point::BetweenFlushAndAnswer | Point::LogWrite => 6,
        Point::Recovery => 8,
    };
    let span = 1 << dice.below(doublings + 1);
    1 + dice.below(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        let plan = Plan::new(7, 50, &Fault::ALL);
        assert_eq!(plan, Plan::new(7, 50, &Fault::ALL));
        assert_ne!(plan, Plan::new(8, 50, &Fault::ALL));
    }

    #[test]
    fn a_long_plan_has_every_fault_and_every_chosen_place() {
        let plan = Plan::new(1, 600, &Fault::ALL);
        for fault in Fault::ALL {
            assert!(plan.rounds.iter().any(|round| round.fault == fault), "{fault}");
        }
        for point in Point::CHOSEN {
            let is = |round: &Round| {
                round.fault == Fault::Kill && round.trap.is_some_and(|(at, ..)| at == point)
            };
            assert!(plan.rounds.iter().any(is), "{point:?}");
        }
        let kills = Plan::new(1, 50, &[Fault::Kill]);
        assert!(kills.rounds.iter().all(|round| round.fault == Fault::Kill));
        let none = Plan::new(1, 50, &[Fault::Pause]);
        assert!(none.rounds.iter().all(|round| round.fault == Fault::Pause));
    }
}
