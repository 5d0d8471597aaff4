use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde::Serialize;

/// Minutes that are kept.
const DAY: u32 = 24 * 60;
/// Folders that are kept one by one. Each takes 35 KiB once it is a day old, so all of them take 3.5 MiB at most; any
/// further ones count in the total alone.
const FOLDERS_MAX: usize = 100;
/// Nobody looked how many files waited.
const UNSEEN: u32 = u32::MAX;

/// The last day, as the service notes it down and the page shows it.
pub type SharedHistory = Arc<Mutex<History>>;

/// The last day in minutes, of all folders together and of each. A ring: what is older than a day goes.
#[derive(Debug, Default)]
pub struct History {
    total: Track,
    folders: Vec<(String, Track)>,
}

/// A folder at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    /// What tells the folder from others.
    pub key: String,
    /// Files that wait.
    pub waiting: u64,
    /// Files pushed since some beginning; a number that is less than before says that there was another one.
    pub files: u64,
    /// Bytes pushed, likewise.
    pub bytes: u64,
}

/// A commit of an earlier life of the service, or of before anyone looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastCommit {
    /// When it was proved, in minutes since the epoch.
    pub minute: u32,
    /// Files put.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Track {
    samples: VecDeque<Sample>,
    /// The counts that were last seen; `None` before the first.
    counted: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    minute: u32,
    /// The most in this minute, or [`UNSEEN`].
    waiting: u32,
    files: u32,
    bytes: u64,
}

/// A day in columns: a row for each minute of which something is known, in order.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Day {
    /// Minutes since the epoch.
    minutes: Vec<u32>,
    /// The most files that waited; nothing where nobody looked.
    waiting: Vec<Option<u32>>,
    /// Files that were committed.
    files: Vec<u32>,
    /// Their bytes.
    bytes: Vec<u64>,
}

impl History {
    /// Notes down how the folders are, in the order of the config. Returns those that were not known: what is known of
    /// their past is to be told with [`History::add_past`].
    pub fn sample(&mut self, minute: u32, gauges: &[Gauge]) -> Vec<String> {
        let mut known = std::mem::take(&mut self.folders);
        let mut new = Vec::new();
        let (mut waiting, mut files, mut bytes) = (0, 0, 0);
        for gauge in gauges {
            let at = known.iter().position(|(key, _)| *key == gauge.key);
            let mut track = at.map_or_else(Track::default, |at| known.swap_remove(at).1);
            if track.counted.is_none() {
                new.push(gauge.key.clone());
            }
            let more = track.count(gauge.files, gauge.bytes);
            waiting += gauge.waiting;
            files += more.0;
            bytes += more.1;
            if self.folders.len() < FOLDERS_MAX {
                track.note(minute, gauge.waiting, more.0, more.1);
            } else {
                track.samples = VecDeque::new();
            }
            self.folders.push((gauge.key.clone(), track));
        }
        self.total.note(minute, waiting, files, bytes);
        new
    }

    /// Adds commits that were made before the folder was first seen, in their order.
    pub fn add_past(&mut self, key: &str, commits: &[PastCommit]) {
        if let Some((_, track)) =
            self.folders.iter_mut().take(FOLDERS_MAX).find(|(known, _)| known.as_str() == key)
        {
            track.add_past(commits);
        }
        self.total.add_past(commits);
    }

    /// The day of all folders, or of one by its place in the config.
    pub(super) fn day(&self, folder: Option<usize>) -> Option<Day> {
        let track = match folder {
            None => &self.total,
            Some(number) => &self.folders.get(number)?.1,
        };
        let mut day = Day::default();
        for sample in &track.samples {
            day.minutes.push(sample.minute);
            day.waiting.push((sample.waiting != UNSEEN).then_some(sample.waiting));
            day.files.push(sample.files);
            day.bytes.push(sample.bytes);
        }
        Some(day)
    }
}

impl Track {
    /// How much more there is than when it was last counted.
    fn count(&mut self, files: u64, bytes: u64) -> (u64, u64) {
        let Some(before) = self.counted.replace((files, bytes)) else { return (0, 0) };
        let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        (more(files, before.0), more(bytes, before.1))
    }

    fn note(&mut self, minute: u32, waiting: u64, files: u64, bytes: u64) {
        // A clock that was set back lives through these minutes once more.
        while self.samples.back().is_some_and(|last| last.minute > minute) {
            self.samples.pop_back();
        }
        let sample = self.at_end(minute);
        let waiting = u32::try_from(waiting).unwrap_or(UNSEEN - 1);
        sample.waiting = if sample.waiting == UNSEEN { waiting } else { sample.waiting.max(waiting) };
        sample.add(files, bytes);
        self.trim(minute);
    }

    fn at_end(&mut self, minute: u32) -> &mut Sample {
        if self.samples.capacity() == 0 {
            // All at once, as growing in steps would take twice as much.
            self.samples.reserve_exact(DAY as usize + 1);
        }
        let at = match self.samples.back() {
            Some(last) if last.minute == minute => self.samples.len() - 1,
            _ => {
                self.samples.push_back(Sample { minute, waiting: UNSEEN, files: 0, bytes: 0 });
                self.samples.len() - 1
            }
        };
        &mut self.samples[at]
    }

    fn add_past(&mut self, commits: &[PastCommit]) {
        let Some(newest) = self.samples.back().map(|last| last.minute) else { return };
        for commit in commits
            .iter()
            .filter(|commit| commit.minute <= newest && commit.minute.saturating_add(DAY) > newest)
        {
            let at = self.samples.partition_point(|sample| sample.minute < commit.minute);
            if self.samples.get(at).is_none_or(|sample| sample.minute != commit.minute) {
                let sample = Sample { minute: commit.minute, waiting: UNSEEN, files: 0, bytes: 0 };
                self.samples.insert(at, sample);
            }
            self.samples[at].add(commit.files, commit.bytes);
        }
    }

    fn trim(&mut self, minute: u32) {
        while self.samples.front().is_some_and(|first| first.minute + DAY <= minute) {
            self.samples.pop_front();
        }
    }
}

impl Sample {
    fn add(&mut self, files: u64, bytes: u64) {
        self.files = self.files.saturating_add(u32::try_from(files).unwrap_or(u32::MAX));
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(key: &str, waiting: u64, files: u64, bytes: u64) -> Gauge {
        Gauge { key: key.to_owned(), waiting, files, bytes }
    }

    #[test]
    fn a_minute_holds_what_was_pushed_in_it_and_the_most_that_waited() {
        let mut history = History::default();
        let new = history.sample(100, &[gauge("a", 1, 50, 5_000), gauge("b", 0, 0, 0)]);
        assert_eq!(new, ["a", "b"]);
        assert!(history.sample(100, &[gauge("a", 9, 53, 5_300), gauge("b", 2, 1, 10)]).is_empty());
        history.sample(100, &[gauge("a", 0, 60, 6_000), gauge("b", 0, 1, 10)]);
        // The folder began anew, and its count with it.
        history.sample(102, &[gauge("b", 0, 1, 10), gauge("a", 3, 2, 20)]);
        let a = Day {
            minutes: vec![100, 102],
            waiting: vec![Some(9), Some(3)],
            files: vec![10, 2],
            bytes: vec![1_000, 20],
        };
        assert_eq!(history.day(Some(1)).unwrap(), a);
        let total = history.day(None).unwrap();
        assert_eq!((total.waiting, total.files), (vec![Some(11), Some(3)], vec![11, 2]));
        assert!(history.day(Some(2)).is_none());
        history.sample(103, &[gauge("b", 0, 1, 10)]);
        assert!(history.day(Some(1)).is_none(), "a folder that is gone is forgotten");
    }

    #[test]
    fn the_past_of_before_the_first_look_is_added() {
        let mut history = History::default();
        history.sample(5_000, &[gauge("a", 0, 3, 30)]);
        let past = |minute, files| PastCommit { minute, files, bytes: files * 10 };
        history
            .add_past("a", &[past(3_560, 9), past(3_561, 1), past(4_000, 2), past(4_000, 3), past(5_000, 3)]);
        history.sample(5_000, &[gauge("a", 0, 4, 40)]);
        let day = history.day(Some(0)).unwrap();
        assert_eq!((day.minutes, day.files), (vec![3_561, 4_000, 5_000], vec![1, 5, 4]));
        assert_eq!(day.waiting, [None, None, Some(0)]);
        assert_eq!(history.day(None).unwrap().bytes, [10, 50, 40]);
    }

    #[test]
    fn it_holds_a_day_and_no_more_whatever_the_clock_does() {
        let mut history = History::default();
        for minute in 0..10 * DAY {
            history.sample(minute, &[gauge("a", 0, u64::from(minute), 0)]);
        }
        let day = history.day(None).unwrap();
        assert_eq!((day.minutes.len(), day.minutes[0]), (DAY as usize, 9 * DAY));
        history.sample(9 * DAY + 5, &[gauge("a", 0, 0, 0)]);
        let day = history.day(None).unwrap();
        assert_eq!((day.minutes.len(), *day.minutes.last().unwrap()), (6, 9 * DAY + 5));
        assert!(history.folders[0].1.samples.capacity() <= 2 * DAY as usize);
        assert_eq!(size_of::<Sample>(), 24);
    }

    #[test]
    fn very_many_folders_count_in_the_total_alone() {
        let mut history = History::default();
        let gauges: Vec<_> = (0..300).map(|n| gauge(&n.to_string(), 1, 0, 0)).collect();
        history.sample(1, &gauges);
        assert_eq!(history.sample(2, &gauges), [""; 0]);
        assert_eq!(history.day(None).unwrap().waiting, [Some(300), Some(300)]);
        assert_eq!(history.day(Some(299)).unwrap().minutes, [0; 0]);
    }
}
