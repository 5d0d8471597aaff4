//! When so many bytes may go where only so many are to go each second. Pure.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// What is sent at once takes about this long at the rate: short enough to share a rate evenly and to show progress.
const PIECE_TIME_MS: u64 = 100;
/// However low the rate, pieces are no smaller, in bytes.
const PIECE_LEN_MIN: u64 = 1 << 10;
/// However high the rate, pieces are no larger, in bytes.
const PIECE_LEN_MAX: u64 = 128 << 10;

/// Hands out turns to send, one behind the other, to all that share a rate.
///
/// Over any time, what goes is at most the rate times that time and one piece.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// All that was handed out has gone by then.
    free_at: Option<Instant>,
}

impl Pace {
    /// How many of `wanted` bytes are next, and when they may go. They count as gone from here on.
    pub(super) fn next(
        &mut self,
        now: Instant,
        rate_bytes_per_s: NonZeroU64,
        wanted: usize,
    ) -> (usize, Instant) {
        let rate = rate_bytes_per_s.get();
        let piece = (rate / (1_000 / PIECE_TIME_MS)).clamp(PIECE_LEN_MIN, PIECE_LEN_MAX);
        let len = usize::try_from(piece).unwrap_or(usize::MAX).min(wanted);
        // Time in which nothing was sent is not made up for.
        let go_at = self.free_at.map_or(now, |free_at| free_at.max(now));
        // At most 128 KiB, so this overflows nothing.
        let takes_ns = (len as u64 * 1_000_000_000).div_ceil(rate);
        self.free_at = Some(go_at + Duration::from_nanos(takes_ns));
        (len, go_at)
    }

    /// Forgets what was handed out: the rate is another one, and whoever waits asks again.
    pub(super) fn reset(&mut self) {
        self.free_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(bytes_per_s: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_s).unwrap()
    }

    #[test]
    fn turns_follow_one_another_and_idle_time_is_lost() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let ms = Duration::from_millis;
        assert_eq!(pace.next(start, rate(100_000), 1 << 20), (10_000, start));
        assert_eq!(pace.next(start, rate(100_000), 5_000), (5_000, start + ms(100)));
        assert_eq!(pace.next(start, rate(100_000), 1 << 20), (10_000, start + ms(150)));
        let later = start + ms(10_000);
        assert_eq!(pace.next(later, rate(100_000), 1 << 20), (10_000, later));
        assert_eq!(pace.next(later, rate(100_000), 1 << 20), (10_000, later + ms(100)));
        pace.reset();
        assert_eq!(pace.next(later, rate(1 << 30), 1 << 20), (128 << 10, later));
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_carries_more_than_the_rate(
            per_s in 1_000..100_000_000u64,
            asks in prop::collection::vec((0..2_000u64, 1..300_000usize), 1..60),
        ) {
            let (mut pace, start) = (Pace::default(), Instant::now());
            let (mut now, mut sent) = (start, Vec::new());
            for (idle_ms, wanted) in asks {
                now += Duration::from_millis(idle_ms);
                let (len, at) = pace.next(now, rate(per_s), wanted);
                prop_assert!(len > 0 && len <= wanted && at >= now);
                sent.push((at, len as f64));
            }
            for from in 0..sent.len() {
                let mut sum = 0.0;
                for (at, len) in &sent[from..] {
                    let time_s = at.duration_since(sent[from].0).as_secs_f64();
                    // The last piece goes at once, at the end of that time.
                    prop_assert!(sum <= per_s as f64 * time_s + 1.0, "{sum} bytes in {time_s} s");
                    sum += len;
                }
            }
        }
    }
}
