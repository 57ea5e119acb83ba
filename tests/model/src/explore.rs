//! The search through all states of a world, breadth first.
//!
//! Owns: the search, its figures, and the shortest way to a state in which something does not hold.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};

use crate::world::{Bounds, Rules, Step, World, step_violated, violated};

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// States.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Steps that were tried and refused.
    pub refused: usize,
    /// The length of the longest shortest way to a state.
    pub depth: usize,
}

/// A way to a state in which something does not hold.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What.
    pub what: String,
    /// The steps to it.
    pub way: Vec<Step>,
    /// States that were seen before it.
    pub states: usize,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} states:", self.what, self.states)?;
        self.way.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

/// How each state was first reached.
type Parents = HashMap<usize, (usize, Step)>;

/// Goes through every state that can be reached within bounds. `see` is shown each of them.
pub fn explore(
    bounds: &Bounds,
    rules: &Rules,
    mut see: impl FnMut(&World) -> Option<String>,
) -> Result<Explored, Box<Counterexample>> {
    let mut found = Explored::default();
    let mut known: HashMap<World, usize> = HashMap::new();
    let mut parents = Parents::new();
    let mut depths: BTreeMap<usize, usize> = BTreeMap::new();
    let mut waiting = VecDeque::from([World::new()]);
    known.insert(World::new(), 0);
    depths.insert(0, 0);
    while let Some(world) = waiting.pop_front() {
        let number = known[&world];
        let depth = depths.remove(&number).unwrap_or(0);
        found.depth = found.depth.max(depth);
        let fails = |what, step: Option<&Step>| {
            let way = way_to(number, &parents, step);
            Err(Box::new(Counterexample { what, way, states: known.len() }))
        };
        if let Some(what) = violated(&world, bounds, rules).or_else(|| see(&world)) {
            return fails(what, None);
        }
        let mut new = Vec::new();
        for step in world.attempts(bounds, rules) {
            let Some(after) = world.after(&step, rules) else {
                found.refused += 1;
                continue;
            };
            found.steps += 1;
            if let Some(what) = step_violated(&world, &step, &after) {
                return fails(what, Some(&step));
            }
            new.push((after, step));
        }
        for (after, step) in new {
            if !known.contains_key(&after) {
                let next = known.len();
                known.insert(after.clone(), next);
                parents.insert(next, (number, step));
                depths.insert(next, depth + 1);
                waiting.push_back(after);
            }
        }
    }
    found.states = known.len();
    Ok(found)
}

fn way_to(mut number: usize, parents: &Parents, last: Option<&Step>) -> Vec<Step> {
    let mut way: Vec<Step> = last.cloned().into_iter().collect();
    while let Some((before, step)) = parents.get(&number) {
        way.push(step.clone());
        number = *before;
    }
    way.reverse();
    way
}
