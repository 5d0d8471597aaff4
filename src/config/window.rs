//! When a folder's files may be sent, by the time of the week. Pure: times come in as jiff's.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan, Zoned};

use super::timetable::{DAY_MIN, WEEK_MIN, minute_of_week, parse_day, parse_time};

/// When a folder's files may be sent.
///
/// Invariant: the spans, in minutes of the week and without their ends, are in order and neither overlap nor touch. None
/// means always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadWindow {
    spans: Vec<(u16, u16)>,
}

/// One of the spans that make an [`UploadWindow`], as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span(Vec<(u16, u16)>);

/// Why a text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpanError {
    #[error("it is not a span of time; write it like \"18:00-08:00\" or \"Sat-Sun 00:00-24:00\"")]
    Form,
    #[error("it ends when it begins; write \"00:00-24:00\" for the whole day")]
    Empty,
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut words = text.split_whitespace();
        let (days, times) = match (words.next(), words.next(), words.next()) {
            (Some(times), None, _) => (None, times),
            (Some(days), Some(times), None) => (Some(days), times),
            _ => return Err(SpanError::Form),
        };
        let (first, last) = match days.map(|days| days.split_once('-').unwrap_or((days, days))) {
            None => (0, 6),
            Some((first, last)) => {
                (parse_day(first).ok_or(SpanError::Form)?, parse_day(last).ok_or(SpanError::Form)?)
            }
        };
        let (from, to) = times.split_once('-').ok_or(SpanError::Form)?;
        let from = parse_time(from).filter(|from| *from < DAY_MIN).ok_or(SpanError::Form)?;
        let to = parse_time(to).ok_or(SpanError::Form)?;
        if from == to {
            return Err(SpanError::Empty);
        }
        // One that ends before it begins ends on the next day, and belongs to the day that it begins on.
        let len = if from < to { to - from } else { to + DAY_MIN - from };
        let count = (last + 7 - first) % 7 + 1;
        let spans = (0..count).map(|day| (first + day) % 7 * DAY_MIN + from);
        Ok(Self(spans.map(|start| (start, start + len)).collect()))
    }
}

impl FromIterator<Span> for UploadWindow {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut all: Vec<(u16, u16)> = Vec::new();
        for (start, end) in spans.into_iter().flat_map(|Span(spans)| spans) {
            // What goes over the end of the week is the beginning of it.
            all.push((start, end.min(WEEK_MIN)));
            if end > WEEK_MIN {
                all.push((0, end - WEEK_MIN));
            }
        }
        all.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (start, end) in all {
            match merged.last_mut() {
                Some((_, until)) if *until >= start => *until = end.max(*until),
                _ => merged.push((start, end)),
            }
        }
        if merged == [(0, WEEK_MIN)] {
            merged.clear();
        }
        Self { spans: merged }
    }
}

impl UploadWindow {
    /// Whether files may be sent at any time.
    pub fn is_always(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether files may be sent at a local time.
    pub fn is_open(&self, at: DateTime) -> bool {
        let minute = minute_of_week(at);
        self.is_always() || self.spans.iter().any(|(start, end)| (*start..*end).contains(&minute))
    }

    /// The first moment after `after` at which it opens or closes, in the same time zone, whatever its clock does
    /// meanwhile; `None` where it never does.
    pub fn next_change(&self, after: &Zoned) -> Option<Zoned> {
        if self.is_always() {
            return None;
        }
        let (zone, from) = (after.time_zone(), after.timestamp());
        let at = |moment: Timestamp| moment.to_zoned(zone.clone());
        // A day more than a week, since a clock that is put forward can leave out the only moment of a week.
        let until = from.checked_add((15 * 24).hours()).unwrap_or(Timestamp::MAX);
        let mut moments: Vec<Timestamp> = zone
            .following(from)
            .map(|transition| transition.timestamp())
            .take_while(|moment| *moment <= until)
            .collect();
        let midnight = after.date().to_datetime(jiff::civil::Time::midnight());
        let monday = midnight.checked_sub(i64::from(after.weekday().to_monday_zero_offset()).days()).ok()?;
        for week in 0..=2_i64 {
            for minute in self.spans.iter().flat_map(|(start, end)| [*start, *end]) {
                let (days, minutes) = (i64::from(minute / DAY_MIN), i64::from(minute % DAY_MIN));
                let civil = monday.checked_add((week * 7 + days).days().minutes(minutes)).ok()?;
                // A local time can come twice, or never.
                let moment = zone.to_ambiguous_timestamp(civil);
                moments.extend([moment.earlier().ok(), moment.later().ok()].into_iter().flatten());
            }
        }
        moments.sort_unstable();
        let is_open = self.is_open(after.datetime());
        moments
            .into_iter()
            .filter(|moment| *moment > from)
            .map(at)
            .find(|moment| self.is_open(moment.datetime()) != is_open)
    }

    /// When it opens, where it is closed at `now`: RFC 3339 with the offset of the time zone.
    pub fn opens_at(&self, now: &Zoned) -> Option<String> {
        if self.is_open(now.datetime()) {
            return None;
        }
        let opens = self.next_change(now)?;
        Some(opens.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    fn window(spans: &[&str]) -> UploadWindow {
        spans.iter().map(|span| span.parse::<Span>().unwrap()).collect()
    }

    /// In a week that begins on Monday, 2026-11-23.
    fn at(day: i8, hour: i8, minute: i8) -> DateTime {
        date(2026, 11, 22 + day).at(hour, minute, 0, 0)
    }

    fn zoned(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let nights = window(&["18:00-08:00"]);
        assert!(nights.is_open(at(1, 0, 0)) && nights.is_open(at(1, 7, 59)) && nights.is_open(at(7, 23, 59)));
        assert!(
            !nights.is_open(at(1, 8, 0)) && !nights.is_open(at(1, 17, 59)) && nights.is_open(at(1, 18, 0))
        );
        let sunday = window(&["Sun 22:00-06:00"]);
        assert!(sunday.is_open(at(7, 22, 0)) && sunday.is_open(at(1, 5, 59)) && !sunday.is_open(at(2, 5, 0)));
        let long_weekend = window(&["Fri-Mon 00:00-24:00"]);
        assert!(long_weekend.is_open(at(1, 12, 0)) && long_weekend.is_open(at(5, 0, 0)));
        assert!(!long_weekend.is_open(at(2, 0, 0)) && !long_weekend.is_open(at(4, 23, 59)));
    }

    #[test]
    fn all_of_the_week_is_always() {
        for always in [
            &[][..],
            &["00:00-24:00"],
            &["08:00-18:00", "18:00-08:00"],
            &["Mon-Sun 12:00-12:01", "12:01-12:00"],
        ] {
            assert_eq!(window(always), UploadWindow::default(), "{always:?}");
        }
        assert_eq!(
            window(&["Sat-Sun 00:00-24:00"]),
            window(&["sun 00:00-24:00", "SAT 00:00-12:00", "Sat 12:00-24:00"])
        );
    }

    #[test]
    fn what_is_no_span_is_told() {
        for form in [
            "",
            "18:00",
            "18-08",
            "Sat",
            "24:00-08:00",
            "18:00-24:01",
            "Foo 18:00-08:00",
            "Sat Sun 1:00-2:00",
            "18:00 - 08:00",
        ] {
            assert_eq!(form.parse::<Span>(), Err(SpanError::Form), "{form}");
        }
        assert_eq!("08:00-08:00".parse::<Span>(), Err(SpanError::Empty));
    }

    #[test]
    fn the_next_change_is_asked_of_the_zone_s_clock() {
        let change =
            |spans: &[&str], after: &str| window(spans).next_change(&zoned(after)).unwrap().to_string();
        let table = [
            (&["18:00-08:00"][..], "2026-11-25T12:00[UTC]", "2026-11-25T18:00:00+00:00[UTC]"),
            (&["18:00-08:00"], "2026-11-25T18:00[UTC]", "2026-11-26T08:00:00+00:00[UTC]"),
            (&["Sat-Sun 00:00-24:00"], "2026-11-29T12:00[UTC]", "2026-11-30T00:00:00+00:00[UTC]"),
            (&["Mon 08:00-09:00"], "2026-11-23T10:00[UTC]", "2026-11-30T08:00:00+00:00[UTC]"),
            // The clock goes from 02:00 to 03:00: it opens when the clock is put forward.
            (&["02:30-06:00"], "2026-03-29T01:00[Europe/Berlin]", "2026-03-29T03:00:00+02:00[Europe/Berlin]"),
            // All of this night's window is left out.
            (&["02:10-02:50"], "2026-03-29T01:00[Europe/Berlin]", "2026-03-30T02:10:00+02:00[Europe/Berlin]"),
            // The clock goes from 03:00 back to 02:00: what closed at 02:00 comes twice.
            (
                &["01:00-02:30"],
                "2026-10-25T02:15:00+02:00[Europe/Berlin]",
                "2026-10-25T02:30:00+02:00[Europe/Berlin]",
            ),
            (
                &["01:00-02:30"],
                "2026-10-25T02:45:00+02:00[Europe/Berlin]",
                "2026-10-25T02:00:00+01:00[Europe/Berlin]",
            ),
        ];
        for (spans, after, expected) in table {
            assert_eq!(change(spans, after), expected, "{spans:?} after {after}");
        }
        assert_eq!(window(&[]).next_change(&zoned("2026-11-25T12:00[UTC]")), None);
        let opens = window(&["18:00-08:00"]).opens_at(&zoned("2026-11-25T12:00[Europe/Berlin]"));
        assert_eq!(opens.as_deref(), Some("2026-11-25T18:00:00+01:00"));
        assert_eq!(window(&["18:00-08:00"]).opens_at(&zoned("2026-11-25T19:00[Europe/Berlin]")), None);
    }

    proptest! {
        /// Against walking minute by minute, over both of the year's changes of the clock.
        #[test]
        fn nothing_changes_before_the_next_change(
            spans in prop::collection::vec((0..7u16, 0..7u16, 0..DAY_MIN, 0..=DAY_MIN), 1..4),
            start in 0..3_000_i64,
            is_spring in any::<bool>(),
        ) {
            const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let window: UploadWindow = spans.iter().filter_map(|(first, last, from, to)| {
                let days = [DAYS[usize::from(*first)], DAYS[usize::from(*last)]].join("-");
                format!("{days} {}-{}", time(*from), time(*to)).parse::<Span>().ok()
            }).collect();
            let day = if is_spring { "2026-03-28" } else { "2026-10-24" };
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let from: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
            let moment = |minutes: i64| (from + minutes.minutes()).to_zoned(zone.clone());
            let after = moment(start);
            let is_open = window.is_open(after.datetime());
            let walked = (1..=15 * 24 * 60).map(|minutes| moment(start + minutes))
                .find(|at| window.is_open(at.datetime()) != is_open);
            prop_assert_eq!(window.next_change(&after), walked);
        }

        #[test]
        fn arbitrary_text_is_read_or_refused(text in "\\PC{0,40}|([MonSatSu0-9: -]){0,30}") {
            let _ = text.parse::<Span>();
        }
    }
}
