//! Moments and spans as a person reads and writes them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment in RFC 3339 as the local time, to the second; as it is where it is none.
pub(super) fn local(at: &str) -> String {
    let Ok(at_zone) = at.parse::<Timestamp>() else { return at.to_owned() };
    at_zone.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Reads "30s", "2h", "1h30m", "7d".
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "no time such as 30s, 2h or 7d".to_owned())
}
