//! When a call is tried again.
//!
//! Owns: pauses, their jitter, and when patience ends. Knows nothing of what is tried.

use std::time::{Duration, Instant};

/// How long a host that does not answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Altogether, from the first failure.
    pub total: Duration,
    /// The first pause; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause, unless the host asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(10),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// The same with another bound altogether.
    #[must_use]
    pub fn for_total(self, total: Duration) -> Self {
        Self { total, ..self }
    }

    /// The pause before try number `retry`, counted from 1. `random` is any number: it shortens the
    /// pause by up to one half, so that clients that failed together do not come back together.
    fn pause(&self, retry: u32, random: u64, asked: Option<Duration>) -> Duration {
        let doublings = retry.saturating_sub(1).min(20);
        let pause = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        let parts = u32::try_from(random % 1024).unwrap_or(0);
        let pause = pause.saturating_sub(pause / 2 * parts / 1024);
        pause.max(asked.unwrap_or(Duration::ZERO))
    }
}

/// The tries of one call.
#[derive(Debug)]
pub(crate) struct Tries {
    patience: Patience,
    failing_since: Option<Instant>,
    retries: u32,
}

impl Tries {
    pub fn new(patience: Patience) -> Self {
        Self { patience, failing_since: None, retries: 0 }
    }

    /// How long to wait before the next try; `None` when patience is at its end. `asked` is what
    /// the host asked for.
    pub fn next_pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        self.retries = self.retries.saturating_add(1);
        let random = getrandom::u64().unwrap_or_default();
        let pause = self.patience.pause(self.retries, random, asked);
        let waited = since.elapsed().checked_add(pause)?;
        (waited <= self.patience.total).then_some(pause)
    }

    /// There was an answer: patience begins anew.
    pub fn succeeded(&mut self) {
        self.failing_since = None;
        self.retries = 0;
    }

    /// The patience, for messages.
    pub fn patience_s(&self) -> u64 {
        self.patience.total.as_secs()
    }
}

/// What `Retry-After` asks for, where it is a number of seconds. The other form, a date, would
/// depend on two clocks that agree.
pub(crate) fn retry_after(text: Option<&str>) -> Option<Duration> {
    text.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PATIENCE: Patience = Patience {
        total: Duration::from_mins(1),
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(2),
    };

    #[test]
    fn pauses_double_up_to_a_bound_and_are_shortened_by_half_at_most() {
        let at_most = |retry| PATIENCE.pause(retry, 0, None);
        assert_eq!(at_most(1), Duration::from_millis(100));
        assert_eq!(at_most(2), Duration::from_millis(200));
        assert_eq!(at_most(u32::MAX), Duration::from_secs(2));
        for random in [0, 1, 511, 1023, u64::MAX] {
            let pause = PATIENCE.pause(3, random, None);
            assert!(pause > Duration::from_millis(200) && pause <= Duration::from_millis(400));
        }
    }

    #[test]
    fn the_host_is_not_asked_before_it_wants_to_be() {
        let asked = Some(Duration::from_secs(7));
        assert_eq!(PATIENCE.pause(1, 0, asked), Duration::from_secs(7));
        assert_eq!(retry_after(Some(" 7 ")), asked);
        for other in ["", "-1", "Tue, 24 Nov 2026 06:00:00 GMT", "1e99"] {
            assert_eq!(retry_after(Some(other)), None);
        }
    }

    #[test]
    fn nobody_waits_beyond_the_patience() {
        let mut tries = Tries::new(PATIENCE);
        assert_eq!(tries.next_pause(Some(Duration::from_secs(61))), None);
        assert_eq!(tries.next_pause(Some(Duration::MAX)), None);
        assert!(tries.next_pause(None).is_some());
        assert_eq!(Tries::new(PATIENCE.for_total(Duration::ZERO)).next_pause(None), None);
    }
}
