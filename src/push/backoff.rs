//! How long to wait after a try that failed.

use std::time::Duration;

/// Full jitter: a wait drawn evenly from zero up to a bound that doubles with every failure, so that many machines
/// that lost one server do not come back at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Bounds that double from `base` up to `cap`; `None` unless 0 < `base` <= `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Option<Self> {
        if base.is_zero() || base.as_nanos() > cap.as_nanos() { None } else { Some(Self { base, cap }) }
    }

    /// The longest wait after `failures` in a row.
    pub fn bound(&self, failures: u32) -> Duration {
        self.base.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(self.cap)
    }

    /// The wait after `failures` in a row, drawn with `random` from 0 to 1, and never below what the server asked for.
    pub fn wait(&self, failures: u32, random: f64, retry_after: Option<Duration>) -> Duration {
        let drawn = self.bound(failures).mul_f64(random.clamp(0.0, 1.0));
        // What a server asks for is honoured, within reason.
        drawn.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

/// The longest Retry-After that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_checked_when_it_is_built() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::from_secs(1)), None);
        assert_eq!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)), None);
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_bounds(failures in 0..u32::MAX, random in 0.0..1.0, asked in 0..10_000_u64) {
            let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300)).unwrap();
            prop_assert!(backoff.wait(failures, random, None) <= backoff.bound(failures));
            prop_assert!(backoff.bound(failures) <= Duration::from_secs(300));
            prop_assert!(backoff.bound(failures) <= backoff.bound(failures.saturating_add(1)));
            let asked = Duration::from_secs(asked);
            let wait = backoff.wait(failures, random, Some(asked));
            prop_assert!(wait >= asked.min(RETRY_AFTER_MAX) && wait <= RETRY_AFTER_MAX);
        }
    }
}
