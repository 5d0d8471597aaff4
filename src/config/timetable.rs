//! How fast uploads may be, by the time of the week. Pure: times come in as jiff's civil times.

use std::num::NonZeroU64;
use std::str::FromStr;

use jiff::civil::{DateTime, Weekday};

use super::units::{parse_size, show_size};
use crate::path::printable;

/// Minutes of a day and of a week, which begins on Monday.
pub(super) const DAY_MIN: u16 = 24 * 60;
/// See [`DAY_MIN`].
pub(super) const WEEK_MIN: u16 = 7 * DAY_MIN;

/// A slower server is none: one part of a large file would be under way for longer than the server waits for it.
const RATE_MIN: u64 = 16 << 10;

/// How fast uploads to a server may be, by the time of the week.
///
/// Invariant: the entries are in the order of their minutes, no two of one minute; none says that there is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bandwidth {
    entries: Vec<(u16, Option<NonZeroU64>)>,
}

/// Why a text says no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BandwidthError {
    /// Nothing is there.
    #[error("it is empty; write a rate such as \"2 MiB/s\", or \"off\" for no limit")]
    Empty,
    /// A rate that is none.
    #[error("`{}` is not a rate; write a size for each second such as 512KiB, or off for no limit", printable(.0))]
    Rate(String),
    /// A rate that is too low to get anything done.
    #[error("`{}` is too low; at least {} a second are needed", printable(.0), show_size(RATE_MIN))]
    TooLow(String),
    /// An entry of a timetable that is none.
    #[error("`{}` is not an entry of a timetable; write them like \"08:00,512KiB 18:00,10MiB Sat-00:00,off\"", printable(.0))]
    Entry(String),
    /// Two entries for one moment.
    #[error("`{}` begins when another entry does; leave one of them out", printable(.0))]
    Twice(String),
}

impl Bandwidth {
    /// Bytes that may be sent each second at a local time; `None` where there is no limit.
    pub fn rate_at(&self, at: DateTime) -> Option<NonZeroU64> {
        let minute = minute_of_week(at);
        // Before the first entry of the week, the last one of the week before counts.
        let after = self.entries.partition_point(|(from, _)| *from <= minute);
        let entry = after.checked_sub(1).map_or(self.entries.last(), |index| self.entries.get(index));
        entry.and_then(|(_, rate)| *rate)
    }

    /// Whether there is no limit at any time.
    pub fn is_off(&self) -> bool {
        self.entries.iter().all(|(_, rate)| rate.is_none())
    }
}

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    fn from_str(text: &str) -> Result<Self, BandwidthError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BandwidthError::Empty);
        }
        if !text.contains([':', ',']) {
            return Ok(Self { entries: rate(text)?.map(|rate| (0, Some(rate))).into_iter().collect() });
        }
        // An entry for one day counts for that day in place of one for every day.
        let (mut every_day, mut one_day) = (Vec::new(), Vec::new());
        for word in text.split_whitespace() {
            let entry = || BandwidthError::Entry(word.to_owned());
            let (when, rate_text) = word.split_once(',').ok_or_else(entry)?;
            let rate = rate(rate_text)?;
            match when.split_once('-') {
                Some((day, time)) => {
                    let day = parse_day(day).ok_or_else(entry)?;
                    let minute = parse_time(time).filter(|minute| *minute < DAY_MIN).ok_or_else(entry)?;
                    add(&mut one_day, (day * DAY_MIN + minute, rate), word)?;
                }
                None => {
                    let minute = parse_time(when).filter(|minute| *minute < DAY_MIN).ok_or_else(entry)?;
                    add(&mut every_day, (minute, rate), word)?;
                }
            }
        }
        let mut entries = one_day;
        for (minute, rate) in every_day {
            for minute in (0..7).map(|day| day * DAY_MIN + minute) {
                if entries.iter().all(|(from, _)| *from != minute) {
                    entries.push((minute, rate));
                }
            }
        }
        entries.sort_unstable_by_key(|(from, _)| *from);
        Ok(Self { entries })
    }
}

fn add(
    entries: &mut Vec<(u16, Option<NonZeroU64>)>,
    entry: (u16, Option<NonZeroU64>),
    word: &str,
) -> Result<(), BandwidthError> {
    if entries.iter().any(|(from, _)| *from == entry.0) {
        return Err(BandwidthError::Twice(word.to_owned()));
    }
    entries.push(entry);
    Ok(())
}

/// Reads "512KiB", "2 MiB/s", "off".
fn rate(text: &str) -> Result<Option<NonZeroU64>, BandwidthError> {
    let text = text.trim();
    if text == "off" {
        return Ok(None);
    }
    let size = text.strip_suffix("/s").unwrap_or(text);
    match parse_size(size) {
        None => Err(BandwidthError::Rate(text.to_owned())),
        Some(bytes) if bytes < RATE_MIN => Err(BandwidthError::TooLow(text.to_owned())),
        Some(bytes) => Ok(NonZeroU64::new(bytes)),
    }
}

/// The minute of the week that a local time lies in.
pub(super) fn minute_of_week(at: DateTime) -> u16 {
    let day = at.weekday().to_monday_zero_offset().unsigned_abs();
    let (hour, minute) = (at.hour().unsigned_abs(), at.minute().unsigned_abs());
    u16::from(day) * DAY_MIN + u16::from(hour) * 60 + u16::from(minute)
}

/// Reads "Mon" to "Sun", as days since Monday.
pub(super) fn parse_day(text: &str) -> Option<u16> {
    let days = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let (_, day) = days.iter().find(|(name, _)| text.eq_ignore_ascii_case(name))?;
    Some(u16::from(day.to_monday_zero_offset().unsigned_abs()))
}

/// Reads "00:00" to "24:00", as minutes since midnight.
pub(super) fn parse_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| -> Option<u16> {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|_| minutes.len() == 2)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MIN).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    /// A Monday.
    fn week() -> DateTime {
        date(2026, 11, 23).at(0, 0, 0, 0)
    }

    fn rates(text: &str) -> impl Fn(i64, i64) -> Option<u64> {
        let bandwidth: Bandwidth = text.parse().unwrap();
        move |day, minute| bandwidth.rate_at(week() + day.days() + minute.minutes()).map(NonZeroU64::get)
    }

    #[test]
    fn one_rate_counts_always() {
        for text in ["2 MiB/s", "2MiB", " 2097152 ", "2MiB/s"] {
            let rate = rates(text);
            assert!(
                (0..7).all(|day| rate(day, 0) == Some(2 << 20) && rate(day, 1439) == Some(2 << 20)),
                "{text}"
            );
        }
        assert_eq!(rates("off")(3, 700), None);
        assert!("off".parse::<Bandwidth>().unwrap().is_off());
        assert_eq!("off".parse::<Bandwidth>().unwrap(), Bandwidth::default());
    }

    #[test]
    fn the_latest_entry_counts_over_the_end_of_the_week() {
        let rate = rates("08:00,512KiB 18:00,10MiB Sat-00:00,off");
        let (slow, fast) = (Some(512 << 10), Some(10 << 20));
        // Sunday's last entry is the one of 18:00.
        let table = [
            (0, 0, fast),
            (0, 479, fast),
            (0, 480, slow),
            (0, 1079, slow),
            (0, 1080, fast),
            (4, 1439, fast),
            (5, 0, None),
            (5, 479, None),
            (5, 480, slow),
            (6, 1439, fast),
        ];
        for (day, minute, expected) in table {
            assert_eq!(rate(day, minute), expected, "day {day}, minute {minute}");
        }
        assert_eq!(rates("Wed-12:00,1MiB")(0, 0), Some(1 << 20), "one entry counts all the week");
        assert_eq!(
            rates("12:00,1MiB Sun-12:00,2MiB")(6, 720),
            Some(2 << 20),
            "a day's own entry comes first"
        );
    }

    #[test]
    fn what_is_no_timetable_is_told() {
        let table = [
            ("", BandwidthError::Empty),
            ("fast", BandwidthError::Rate("fast".into())),
            ("0", BandwidthError::TooLow("0".into())),
            ("1KiB/s", BandwidthError::TooLow("1KiB/s".into())),
            ("08:00", BandwidthError::Entry("08:00".into())),
            ("24:00,1MiB", BandwidthError::Entry("24:00,1MiB".into())),
            ("8:0,1MiB", BandwidthError::Entry("8:0,1MiB".into())),
            ("Day-08:00,1MiB", BandwidthError::Entry("Day-08:00,1MiB".into())),
            ("08:00,1 MiB", BandwidthError::TooLow("1".into())),
            ("08:00,x", BandwidthError::Rate("x".into())),
            ("08:00,1MiB 8:00,off", BandwidthError::Twice("8:00,off".into())),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Bandwidth>(), Err(error), "{text}");
        }
    }

    proptest! {
        /// Against looking back minute by minute.
        #[test]
        fn the_rate_is_that_of_the_entry_before(
            entries in prop::collection::btree_map(0..WEEK_MIN, prop::option::of(1u64..100), 1..12),
            at in 0..WEEK_MIN,
        ) {
            const DAYS: [&str; 7] = ["Mon", "tue", "WED", "Thu", "Fri", "Sat", "Sun"];
            let rate = |mib: &Option<u64>| mib.map_or("off".to_owned(), |mib| format!("{mib}MiB"));
            let words: Vec<_> = entries.iter().map(|(minute, mib)| {
                let (day, minute) = (minute / DAY_MIN, minute % DAY_MIN);
                format!("{}-{:02}:{:02},{}", DAYS[usize::from(day)], minute / 60, minute % 60, rate(mib))
            }).collect();
            let mut back = (0..WEEK_MIN).map(|back| (at + WEEK_MIN - back) % WEEK_MIN);
            let expected = back.find_map(|minute| entries.get(&minute)).unwrap();
            let found = rates(&words.join(" "))(0, i64::from(at));
            prop_assert_eq!(found, expected.map(|mib| mib << 20));
        }

        #[test]
        fn arbitrary_text_is_read_or_refused(text in "\\PC{0,40}|([MonSat0-9:,KiB/s -]){0,30}") {
            if let Ok(bandwidth) = text.parse::<Bandwidth>() {
                bandwidth.rate_at(week());
            }
        }
    }
}
