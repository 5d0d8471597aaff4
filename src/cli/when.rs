//! Moments and spans as a person reads and writes them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment in RFC 3339 as the local time, to the second; as it is where it is none.
pub(super) fn local(at: &str) -> String {
    let Ok(at_zone) = at.parse::<Timestamp>() else { return at.to_owned() };
    at_zone.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A text with every moment in RFC 3339 as the local time.
pub(super) fn localised(text: &str) -> String {
    // Such as 2026-11-26T10:20:09.781Z: what it is made of, and nothing else, on both sides of the T.
    let is_part = |c: char| c.is_ascii_digit() || "-:.TZ".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(from) = rest.find(is_part) {
        let (before, tail) = rest.split_at(from);
        let (word, tail) = tail.split_at(tail.find(|c| !is_part(c)).unwrap_or(tail.len()));
        out.push_str(before);
        // The end of a sentence is none of it.
        let moment = word.trim_end_matches(['.', ':']);
        match moment.len() {
            20.. => out.push_str(&(local(moment) + &word[moment.len()..])),
            _ => out.push_str(word),
        }
        rest = tail;
    }
    out + rest
}

/// Reads "30s", "2h", "1h30m", "7d".
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "no time such as 30s, 2h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_local_time_and_all_else_stays() {
        let at = |text: &str| local(text);
        let (one, other) = ("2026-11-26T10:20:09.781Z", "2026-11-26T10:20:07.684066361Z");
        let text =
            format!("since {one}. (process 12, since {other}): 2.5 s, 1.2.3.4:3000, T, ..., 2026-11-05/14/Z");
        let expected = format!(
            "since {}. (process 12, since {}): 2.5 s, 1.2.3.4:3000, T, ..., 2026-11-05/14/Z",
            at(one),
            at(other)
        );
        assert_eq!(localised(&text), expected);
        assert_eq!(at(one).len(), "2026-11-26 10:20:09".len());
    }
}
