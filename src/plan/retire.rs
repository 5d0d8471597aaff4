//! Which files may be taken off the machine after they were pushed, and when that is looked into.

use std::time::Duration;

use crate::content::{Hashed, Signature};
use crate::oxen::Entry;
use crate::state::FileRow;

/// Files are looked for at least this often, and at the most so often.
const INTERVAL_MAX: Duration = Duration::from_secs(600);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How many parts of the time from one look to the next a look may take up.
const REST: u32 = 50;

/// Why a file stays although it has been on the branch for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stays {
    /// It is not the file that was pushed any more; once it is pushed again, its time begins anew.
    Changed,
    /// Its bytes are others although nothing else shows that.
    Altered,
    /// A program has it open for writing.
    Busy,
    /// The kernel does not say whether one has.
    Unsure,
    /// Its name is too long to be given another one for a moment.
    LongName,
    /// Patterns leave it out by now, so it is none of ours.
    LeftOut,
    /// The branch does not hold this content at its place any more.
    NotOnBranch,
    /// Where it is to be moved, something of its name is already.
    Taken,
    /// Its directory may not be written to.
    Unwritable,
    /// It cannot be read.
    Unreadable,
}

impl Stays {
    /// Whether it stays so until somebody does something, and what is to be said then.
    pub fn to_be_told(self) -> Option<&'static str> {
        match self {
            Self::Changed | Self::Altered | Self::Busy | Self::LeftOut => None,
            Self::Unsure => Some(
                "the kernel does not tell whether a program writes to them; let oxen-sync run as their owner or with \
                 CAP_LEASE, as its unit does",
            ),
            Self::LongName => Some("their names have more than 233 bytes; rename them"),
            Self::NotOnBranch => {
                Some("the branch does not hold them as they are here any more, so they are the only copy")
            }
            Self::Taken => Some("something of their name is in move_to already, and is not replaced"),
            Self::Unwritable => Some(
                "oxen-sync may not write to their directories; let it, as systemd/README.md says, or write \
                 after_push.do = \"keep\"",
            ),
            Self::Unreadable => Some("they cannot be read or moved"),
        }
    }
}

/// Why nothing goes from a folder on a filesystem of this name.
pub fn remote(filesystem: &str) -> String {
    format!(
        "it lies on {filesystem}, where nobody here knows whether another machine or program writes to a file; run \
         oxen-sync on the machine that has the disk, or write after_push.do = \"keep\""
    )
}

/// How often files are looked for that may go, at the most: a tenth of the time for which they stay, up to ten minutes.
pub fn interval(min_age: Duration) -> Duration {
    (min_age / 10).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// When the next look is due after one that took `spent`, and so little of all time goes into them, however many files
/// there are.
pub fn rest(min_age: Duration, spent: Duration) -> Duration {
    interval(min_age).max(spent.saturating_mul(REST))
}

/// Whether a row says that its file may go: we put it on the branch and compared it there at least `min_age` ago, and for
/// as long nothing has happened to it here. One that was brought back, to be worked with, is as young as that. A clock that
/// was set back makes a file younger and never older.
pub fn may_go(row: &FileRow, min_age: Duration, now_ms: i64) -> bool {
    let Some(since_ms) = at_rest_since_ms(row) else { return false };
    let age_ms = u64::try_from(now_ms.saturating_sub(since_ms)).unwrap_or(0);
    u128::from(age_ms) >= min_age.as_millis()
}

/// When a row says that its file may go, in milliseconds since the epoch; `None` where it does not go.
pub fn goes_from_ms(row: &FileRow, min_age: Duration) -> Option<i64> {
    let min_age_ms = i64::try_from(min_age.as_millis()).unwrap_or(i64::MAX);
    at_rest_since_ms(row).map(|since_ms| since_ms.saturating_add(min_age_ms))
}

/// Since when the branch holds the file as it is here, where we put it there and compared it.
fn at_rest_since_ms(row: &FileRow) -> Option<i64> {
    let pushed_ms = row.pushed_ms.filter(|_| row.commit_id.is_some())?;
    let signature = row.known.signature?;
    let is_sure = row.is_proved() && !row.known.racy && signature.size == row.size;
    is_sure.then(|| pushed_ms.max(signature.ctime_ns.div_euclid(1_000_000)))
}

/// Whether a file that is `here` now, and was read anew, is what its row says.
///
/// # Errors
/// Why it stays.
pub fn holds_here(row: &FileRow, here: &Signature, read: &Hashed) -> Result<(), Stays> {
    if row.known.signature != Some(*here) || read.signature != *here {
        return Err(Stays::Changed);
    }
    match row.sha256.is_some() && row.holds(read.signature.size, &read.digests) {
        true => Ok(()),
        false => Err(Stays::Altered),
    }
}

/// Whether what the branch holds at the place of a file is its content.
///
/// # Errors
/// Why it stays.
pub fn holds_there(row: &FileRow, entry: Option<&Entry>) -> Result<(), Stays> {
    let same = |entry: &Entry| !entry.is_dir && entry.size == row.size && entry.xxh3 == Some(row.xxh3);
    if entry.is_some_and(same) { Ok(()) } else { Err(Stays::NotOnBranch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Digests;
    use crate::state::{KnownFile, PlaceKey, Presence};

    const HERE: Signature = Signature { size: 3, mtime_ns: 1, ctime_ns: 2, inode: 9 };
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn row() -> FileRow {
        FileRow {
            known: KnownFile { signature: Some(HERE), racy: false, presence: Presence::Here },
            size: 3,
            xxh3: 7,
            sha256: Some([1; 32]),
            commit_id: Some("c".to_owned()),
            pushed_ms: Some(1_000),
            place: PlaceKey::default(),
        }
    }

    fn read() -> Hashed {
        Hashed { signature: HERE, digests: Digests { sha256: Some([1; 32]), xxh3: 7 }, racy: false }
    }

    #[test]
    fn a_file_goes_when_it_was_proved_long_enough_ago() {
        let day_ms = 24 * 3_600_000;
        for (now_ms, goes) in [(1_000 + day_ms, true), (999 + day_ms, false), (0, false), (i64::MAX, true)] {
            assert_eq!(may_go(&row(), DAY, now_ms), goes, "{now_ms}");
            assert_eq!(goes_from_ms(&row(), DAY).is_some_and(|from_ms| from_ms <= now_ms), goes, "{now_ms}");
        }
        assert!(may_go(&row(), Duration::ZERO, 0), "a clock that was set back makes it as young as can be");
        assert!(!may_go(&row(), Duration::MAX, i64::MAX));
    }

    #[test]
    fn a_file_that_was_brought_back_is_as_young_as_that() {
        let day_ms = 24 * 3_600_000;
        let signature = Signature { ctime_ns: 5 * day_ms * 1_000_000, ..HERE };
        let back = FileRow { known: KnownFile { signature: Some(signature), ..row().known }, ..row() };
        for (now_ms, goes) in [(5 * day_ms, false), (6 * day_ms - 1, false), (6 * day_ms, true)] {
            assert_eq!(may_go(&back, DAY, now_ms), goes, "{now_ms}");
        }
    }

    #[test]
    fn what_is_not_proved_or_not_sure_never_goes() {
        let known = row().known;
        let others = [
            ("listed alone", FileRow { sha256: None, ..row() }),
            ("of no commit of ours", FileRow { commit_id: None, ..row() }),
            ("proved nobody knows when", FileRow { pushed_ms: None, ..row() }),
            ("never here", FileRow { known: KnownFile { signature: None, ..known }, ..row() }),
            ("racy", FileRow { known: KnownFile { racy: true, ..known }, ..row() }),
            ("of another size", FileRow { size: 4, ..row() }),
            ("gone", FileRow { known: KnownFile { presence: Presence::Kept, ..known }, ..row() }),
            ("waiting", FileRow { known: KnownFile { presence: Presence::Waiting, ..known }, ..row() }),
            ("released", FileRow { known: KnownFile { presence: Presence::Released, ..known }, ..row() }),
        ];
        assert!(may_go(&row(), DAY, i64::MAX));
        for (what, row) in others {
            assert!(!may_go(&row, DAY, i64::MAX), "{what}");
        }
    }

    #[test]
    fn any_difference_keeps_a_file_here() {
        assert_eq!(holds_here(&row(), &HERE, &read()), Ok(()));
        for other in [
            Signature { size: 4, ..HERE },
            Signature { mtime_ns: 0, ..HERE },
            Signature { ctime_ns: 0, ..HERE },
            Signature { inode: 0, ..HERE },
        ] {
            assert_eq!(
                holds_here(&row(), &other, &Hashed { signature: other, ..read() }),
                Err(Stays::Changed)
            );
            assert_eq!(
                holds_here(&row(), &HERE, &Hashed { signature: other, ..read() }),
                Err(Stays::Changed)
            );
        }
        for digests in
            [Digests { sha256: Some([2; 32]), xxh3: 7 }, Digests { sha256: Some([1; 32]), xxh3: 8 }]
        {
            assert_eq!(holds_here(&row(), &HERE, &Hashed { digests, ..read() }), Err(Stays::Altered));
        }
        let listed = FileRow { sha256: None, ..row() };
        assert_eq!(holds_here(&listed, &HERE, &read()), Err(Stays::Altered));
    }

    #[test]
    fn only_the_very_content_on_the_branch_lets_a_file_go() {
        let entry = Entry { name: "a".into(), is_dir: false, size: 3, xxh3: Some(7), last_commit_id: None };
        assert_eq!(holds_there(&row(), Some(&entry)), Ok(()));
        let others = [
            None,
            Some(Entry { size: 4, ..entry.clone() }),
            Some(Entry { xxh3: Some(8), ..entry.clone() }),
            Some(Entry { xxh3: None, ..entry.clone() }),
            Some(Entry { is_dir: true, ..entry }),
        ];
        for other in others {
            assert_eq!(holds_there(&row(), other.as_ref()), Err(Stays::NotOnBranch));
        }
    }

    #[test]
    fn looks_are_as_often_as_it_matters_and_cost_little() {
        for (min_age, every) in [(0, 1), (1, 1), (100, 10), (7 * 24 * 3600, 600)] {
            assert_eq!(interval(Duration::from_secs(min_age)), Duration::from_secs(every));
        }
        assert_eq!(rest(Duration::ZERO, Duration::from_secs(2)), Duration::from_secs(100));
        assert_eq!(rest(DAY, Duration::from_secs(2)), INTERVAL_MAX);
    }
}
