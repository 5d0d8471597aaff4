use rustix::fs::Stat;

/// What the kernel says of a file, to compare with; what its times say of its age only [`FileClock`](super::FileClock)
/// knows.
///
/// Two equal signatures mean "not touched": `ctime` cannot be set by a program, so a rewrite that restores size
/// and mtime still shows, and an inode that was reused does too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the epoch, wrapped into 64 bits: a token, not a time.
    pub mtime_ns: i64,
    /// As `mtime_ns`, of the inode's last change.
    pub ctime_ns: i64,
    /// The inode's number.
    pub inode: u64,
}

/// The kernel stamps files with a clock that may stand still for a tick (10 ms at the slowest): two writes within
/// one tick are indistinguishable. This bound leaves room for coarse clocks of other filesystems.
const TICK_NS: i64 = 100_000_000;
/// The same for filesystems that keep whole seconds, or every other one.
const COARSE_TICK_NS: i64 = 2_000_000_000;

impl Signature {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: token(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: token(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }

    /// Whether a write right after this signature was taken at `wall_ns` could have left it unchanged (git's "racy"
    /// rule). `wall_ns` is to be taken before the file is read. Such a file is hashed once more at the next look.
    pub fn is_racy(&self, wall_ns: i64) -> bool {
        let is_coarse = self.ctime_ns % 1_000_000_000 == 0;
        let tick_ns = if is_coarse { COARSE_TICK_NS } else { TICK_NS };
        wall_ns.wrapping_sub(self.ctime_ns).wrapping_abs() < tick_ns
    }
}

/// A moment as a token: nanoseconds since the epoch, wrapped into 64 bits.
pub(super) fn token(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds.try_into().unwrap_or(0))
}

/// The wall clock as a token comparable with `ctime_ns`.
pub(super) fn wall_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    token(now.tv_sec, now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_as_young_as_its_hash_is_distrusted() {
        let at = |ctime_ns| Signature { size: 1, mtime_ns: 0, ctime_ns, inode: 1 };
        assert!(at(1_000_000_001).is_racy(1_000_000_001));
        assert!(at(1_000_000_001).is_racy(1_000_000_001 + TICK_NS - 1));
        assert!(!at(1_000_000_001).is_racy(1_000_000_001 + TICK_NS));
        assert!(at(1_000_000_000).is_racy(1_000_000_000 + TICK_NS), "whole seconds are a coarse clock");
        assert!(!at(1_000_000_000).is_racy(1_000_000_000 + COARSE_TICK_NS));
        assert!(!at(i64::MAX).is_racy(0), "a clock that jumped is no reason to hash for ever");
    }
}
