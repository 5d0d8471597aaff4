//! Durations and sizes as people write them.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::fmt::friendly::{Spacing, SpanParser, SpanPrinter};
use jiff::{SignedDuration, SpanRelativeTo};

/// Reads "500ms", "2s", "1h30m", "7d". Days have 24 hours; months and years, having no fixed length, are refused.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text.trim()).ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok()
}

/// The duration as the config would write it.
pub(crate) fn show_duration(duration: Duration) -> String {
    const DAY_S: u64 = 24 * 60 * 60;
    let (days, rest) = (duration.as_secs() / DAY_S, duration.as_secs() % DAY_S);
    let rest = SignedDuration::from_secs(rest.cast_signed())
        + SignedDuration::from_nanos(i64::from(duration.subsec_nanos()));
    let rest_shown = SpanPrinter::new().spacing(Spacing::None).duration_to_string(&rest);
    match (days, rest.is_zero()) {
        (0, _) => rest_shown,
        (days, true) => format!("{days}d"),
        (days, false) => format!("{days}d{rest_shown}"),
    }
}

/// Reads "64MiB", "10 MB", "1.5GiB", "4096".
pub(super) fn parse_size(text: &str) -> Option<u64> {
    text.trim().parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// The size in binary units; the config would take it back as nearly the same size.
pub(super) fn show_size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Reads "50%".
pub(super) fn parse_percent(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_written() {
        let table = [
            ("500ms", 500),
            ("2s", 2_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "2", "s", "-2s", "2s ago", "1y", "1mo", "2 parsecs", "P1D", "99999999999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_written() {
        let table = [
            ("64MiB", 64 << 20),
            ("10MB", 10_000_000),
            ("10 MB", 10_000_000),
            ("1.5GiB", 3 << 29),
            ("4096", 4096),
            ("0", 0),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1MiB", "1 parsec", "1,5GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn shares_are_read_as_written() {
        for (text, percent) in [("50%", 50), (" 7 % ", 7), ("0%", 0), ("200%", 200)] {
            assert_eq!(parse_percent(text), Some(percent), "{text}");
        }
        for bad in ["", "%", "50", "+5%", "-5%", "0.5%", "5%%", "99999999999999999999%"] {
            assert_eq!(parse_percent(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(ms in 0..10_000_000_000u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }
}
