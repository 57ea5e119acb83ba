//! Watchers that come back where they were, and demand that nothing is missing and nothing comes
//! twice.
//!
//! Owns: what a client of the event streams may rely on. Knows nothing of kills.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::Place;
use crate::{
    http::{Event, Events},
    support::PATIENCE,
};

/// How long a stream may be silent before its watcher comes back.
const SILENCE: Duration = Duration::from_secs(2);

/// What a watcher saw.
#[derive(Default)]
pub struct Seen {
    /// Positions of the events, ascending.
    pub events: Vec<u64>,
    /// What was printed on standard output.
    pub stdout: Vec<u8>,
    /// How often it connected.
    pub connections: u32,
    last_id: Option<String>,
    /// Whether its stream came to its end.
    pub over: bool,
}

impl Seen {
    #[track_caller]
    pub fn take(&mut self, event: &Event) {
        match event.name.as_str() {
            "end" => self.over = true,
            "output" => self.take_output(event),
            "progress" | "lagging" => assert_eq!(event.id, None, "{event:?}"),
            "error" => panic!("{event:?}"),
            _ => {
                let id = event.json()["id"].as_u64().unwrap();
                let last = self.events.last().copied().unwrap_or(0);
                assert!(id > last, "{id} after {last}: {event:?}");
                self.events.push(id);
            }
        }
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
    }

    #[track_caller]
    fn take_output(&mut self, event: &Event) {
        let output = event.json();
        if output["stream"] == "stdout" {
            let text = output["text"].as_str().unwrap();
            assert_eq!(output["offset"].as_u64(), Some(self.stdout.len() as u64), "{output}");
            assert_eq!(output["bytes"].as_u64(), Some(text.len() as u64), "{output}");
            self.stdout.extend_from_slice(text.as_bytes());
        }
    }
}

/// Follows one job to its end.
pub fn follow_job(place: &Place, job: &str) -> Seen {
    follow(place, &format!("/v1/jobs/{job}/events"), Seen::default(), |seen| seen.over)
}

/// Follows all jobs from the beginning, up to a position that is told when it is known.
pub fn follow_all(place: &Place, up_to: &AtomicU64) -> Seen {
    let seen = Seen { last_id: Some("0".to_owned()), ..Seen::default() };
    follow(place, "/v1/events", seen, |seen| {
        seen.events.last().is_some_and(|last| *last >= up_to.load(Ordering::Relaxed))
    })
}

fn follow(place: &Place, path: &str, mut seen: Seen, is_over: impl Fn(&Seen) -> bool) -> Seen {
    let mut heard = Instant::now();
    while !is_over(&seen) {
        let length = seen.events.len();
        assert!(heard.elapsed() < PATIENCE, "{path}: silence after {length} events");
        let events = place.now().and_then(|address| {
            Events::open(address, path, seen.last_id.as_deref())?.patience(SILENCE)
        });
        let Ok(mut events) = events else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        seen.connections += 1;
        while !is_over(&seen)
            && let Ok(event) = events.next()
        {
            seen.take(&event);
            heard = Instant::now();
        }
    }
    seen
}
