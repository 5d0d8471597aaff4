use std::time::Duration;

use rustix::time::ClockId;

use super::Signature;
use super::signature::{token, wall_ns};

/// The clock by which a filesystem of this machine dates its files, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileClock {
    now_ns: i64,
    booted_ns: i64,
}

/// Filesystems on which the kernel itself dates every change by its own clock, by their magic number (`statfs(2)`). On
/// others a server, a program, or a driver that keeps local time may do so.
const DATED_HERE: [i64; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x794c_7630, // overlayfs
];
/// Files are dated by a clock that may stand still for a tick.
const TICK_NS: i64 = 100_000_000;

impl FileClock {
    /// The clock by now.
    pub fn read() -> Self {
        let up = rustix::time::clock_gettime(ClockId::Boottime);
        let now_ns = wall_ns();
        Self { now_ns, booted_ns: now_ns.saturating_sub(token(up.tv_sec, up.tv_nsec)) }
    }

    /// Whether a filesystem with this magic number goes by it.
    pub fn dates(magic: i64) -> bool {
        DATED_HERE.contains(&(magic & 0xffff_ffff))
    }

    /// How long nothing has happened to a file, at least. `None` where that is not known: by the clock it was last changed
    /// before the machine was started, and nobody knows whether the clock was right then, or lies ahead.
    pub fn rest(&self, signature: &Signature) -> Option<Duration> {
        let changed_ns = signature.ctime_ns;
        let age_ns = self.now_ns.checked_sub(changed_ns)?.checked_sub(TICK_NS)?;
        if changed_ns < self.booted_ns {
            return None;
        }
        u64::try_from(age_ns).ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::RootDir;

    fn changed_at(ctime_ns: i64) -> Signature {
        Signature { size: 1, mtime_ns: 0, ctime_ns, inode: 1 }
    }

    #[test]
    fn a_file_has_rested_since_its_last_change_as_far_as_that_is_known() {
        let second = 1_000_000_000;
        let clock = FileClock { now_ns: 1_000 * second, booted_ns: 900 * second };
        let rest_ms = |ctime_ns| clock.rest(&changed_at(ctime_ns)).map(|rest| rest.as_millis());
        assert_eq!(rest_ms(990 * second), Some(9_900));
        assert_eq!(rest_ms(900 * second), Some(99_900));
        assert_eq!(rest_ms(899 * second), None, "before the machine was started");
        assert_eq!(rest_ms(1_000 * second), None, "not for a tick");
        assert_eq!(rest_ms(2_000 * second), None, "in the future");
        assert_eq!(rest_ms(i64::MIN), None);
        assert_eq!(rest_ms(i64::MAX), None);
    }

    #[test]
    fn a_file_that_was_just_written_has_not_rested() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("f"), "1").unwrap();
        let path = crate::path::LocalPath::root().join("f".as_ref());
        let signature = root.open_file(&path).unwrap().signature;
        let rest = FileClock::read().rest(&signature);
        assert!(rest.is_none_or(|rest| rest < Duration::from_secs(60)), "{rest:?}");
        assert!(!FileClock::dates(0x6969), "NFS");
    }
}
