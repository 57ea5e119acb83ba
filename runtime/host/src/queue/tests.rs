//! What the order between jobs promises.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const MACHINE: Capacity = Capacity { cpu_milli: 2000, memory_bytes: 1000 };

fn job(number: JobNumber) -> Candidate {
    Candidate {
        number,
        priority: 0,
        queue: "default".to_owned(),
        concurrency: None,
        needs: Capacity { cpu_milli: 1000, memory_bytes: 1 },
        not_before_ns: 0,
    }
}

fn queue_of(jobs: impl IntoIterator<Item = Candidate>) -> Queue {
    let mut queue = Queue::new(MACHINE);
    for job in jobs {
        queue.offer(job, 0);
    }
    queue
}

/// Everything in the order in which it starts, one at a time.
fn drain(queue: &mut Queue) -> Vec<JobNumber> {
    let mut order = Vec::new();
    while let Some(number) = queue.start_next(0) {
        order.push(number);
        queue.finished(number);
    }
    order
}

#[test]
fn priority_goes_before_age_and_age_decides_among_equals() {
    let urgent = Candidate { priority: 5, ..job(3) };
    let idle = Candidate { priority: -5, ..job(1) };
    assert_eq!(drain(&mut queue_of([idle, job(2), urgent, job(4)])), [3, 2, 4, 1]);
}

#[test]
fn queues_take_turns_however_many_jobs_one_of_them_has() {
    let of = |number, queue: &str| Candidate { queue: queue.to_owned(), ..job(number) };
    let many = (1..=6).map(|number| of(number, "many"));
    let mut queue = queue_of(many.chain([of(7, "few"), of(8, "few")]));
    assert_eq!(drain(&mut queue), [1, 7, 2, 8, 3, 4, 5, 6]);
}

#[test]
fn a_queue_that_was_idle_does_not_make_up_for_it() {
    let of = |number, queue: &str| Candidate { queue: queue.to_owned(), ..job(number) };
    let mut queue = queue_of((1..=20).map(|number| of(number, "busy")));
    for _ in 0..10 {
        let number = queue.start_next(0).unwrap();
        queue.finished(number);
    }
    for number in 21..=24 {
        queue.offer(of(number, "late"), 0);
    }
    let order = drain(&mut queue);
    assert!(order[..4].contains(&11) && order[..4].contains(&12), "{order:?}");
}

#[test]
fn jobs_with_a_key_run_only_as_many_at_once_as_they_allow() {
    let keyed = |number| Candidate { concurrency: Some(("gpu".into(), 1)), ..job(number) };
    let mut queue = queue_of([keyed(1), keyed(2), job(3)]);
    assert_eq!(queue.start_next(0), Some(1));
    assert_eq!(queue.start_next(0), Some(3));
    assert_eq!(
        queue.why(2),
        Some(Waiting::Concurrency { key: "gpu".into(), running: 1, limit: 1 })
    );
    queue.finished(1);
    assert_eq!(queue.start_next(0), Some(2));
}

#[test]
fn a_large_job_lets_small_ones_pass_for_a_while_and_then_no_more() {
    let large = Candidate { needs: Capacity { cpu_milli: 2000, memory_bytes: 1 }, ..job(2) };
    let mut queue = queue_of([job(1), large, job(3), job(4)]);
    let of_queue = |number| Candidate { queue: "other".into(), ..job(number) };
    for number in 5..=7 {
        queue.offer(of_queue(number), 0);
    }
    assert_eq!(queue.start_next(0), Some(1));
    assert_eq!(queue.start_next(0), Some(5), "it is the other queue's turn");
    queue.finished(1);
    assert_eq!(queue.start_next(1), Some(6), "it fits beside the running one");
    queue.finished(5);
    assert_eq!(queue.start_next(1 + PATIENCE_NS), None, "what is free is kept for the large one");
    assert!(matches!(queue.why(2), Some(Waiting::Resources { .. })));
    queue.finished(6);
    assert_eq!(queue.start_next(1 + PATIENCE_NS), Some(2));
}

#[test]
fn a_delayed_job_starts_when_its_time_has_come() {
    let later = Candidate { not_before_ns: 100, ..job(1) };
    let mut queue = queue_of([later]);
    assert_eq!((queue.start_next(99), queue.next_wake_ns()), (None, Some(100)));
    assert_eq!(queue.why(1), Some(Waiting::Until { not_before_ns: 100 }));
    assert_eq!(queue.start_next(100), Some(1));
    assert_eq!(queue.next_wake_ns(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Offer { queue: u8, priority: i32, key: Option<u8>, cpu: u64, delay: u64 },
    Start,
    Finish(prop::sample::Index),
    Withdraw(u64),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, -1..2i32, prop::option::of(0..2u8), 1..2001u64, 0..50u64).prop_map(
            |(queue, priority, key, cpu, delay)| Step::Offer { queue, priority, key, cpu, delay }),
        3 => Just(Step::Start),
        2 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => (1..40u64).prop_map(Step::Withdraw),
        1 => (1..100u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: the machine is never overbooked, no key exceeds its bound, nothing starts
    /// before its time or twice, and in the end everything has run.
    #[test]
    fn no_job_is_lost_doubled_or_overbooks_the_machine(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut queue = Queue::new(MACHINE);
        let (mut now, mut next) = (0u64, 1u64);
        let mut expected: BTreeMap<JobNumber, Candidate> = BTreeMap::new();
        let mut running: BTreeMap<JobNumber, Candidate> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Offer { queue: name, priority, key, cpu, delay } => {
                    let candidate = Candidate {
                        number: next,
                        priority,
                        queue: format!("q{name}"),
                        concurrency: key.map(|key| (format!("k{key}"), 1 + u32::from(key))),
                        needs: Capacity { cpu_milli: cpu, memory_bytes: 10 },
                        not_before_ns: now + delay,
                    };
                    expected.insert(next, candidate.clone());
                    queue.offer(candidate.clone(), now);
                    queue.offer(candidate, now);
                    next += 1;
                }
                Step::Start => {
                    if let Some(number) = queue.start_next(now) {
                        let candidate = expected.remove(&number).unwrap();
                        prop_assert!(candidate.not_before_ns <= now);
                        running.insert(number, candidate);
                    }
                }
                Step::Finish(index) if !running.is_empty() => {
                    let number = *running.keys().nth(index.index(running.len())).unwrap();
                    running.remove(&number);
                    queue.finished(number);
                }
                Step::Finish(_) => {}
                Step::Withdraw(number) => {
                    prop_assert_eq!(queue.withdraw(number), expected.remove(&number).is_some());
                }
                Step::Wait(ns) => now += ns,
            }
            let cpu: u64 = running.values().map(|job| job.needs.cpu_milli).sum();
            prop_assert_eq!(queue.used().cpu_milli, cpu);
            prop_assert!(cpu <= MACHINE.cpu_milli);
            prop_assert_eq!(queue.waiting(), expected.len());
            for key in ["k0", "k1"] {
                let of_key = |job: &&Candidate| job.concurrency.as_ref().is_some_and(|(k, _)| k == key);
                let bound = if key == "k0" { 1 } else { 2 };
                prop_assert!(running.values().filter(of_key).count() <= bound);
            }
            for number in expected.keys() {
                prop_assert!(queue.why(*number).is_some());
            }
        }
        for number in running.into_keys() {
            queue.finished(number);
        }
        now += PATIENCE_NS + 1000;
        while let Some(number) = queue.start_next(now) {
            prop_assert!(expected.remove(&number).is_some());
            queue.finished(number);
        }
        prop_assert!(expected.is_empty(), "{:?} never started", expected);
    }
}
