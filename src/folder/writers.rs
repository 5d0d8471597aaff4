//! Whether someone has a file open for writing.
//!
//! The kernel knows, and says so when it refuses a read lease (`fcntl F_SETLEASE F_RDLCK`): EAGAIN while anyone has
//! the file open or mapped for writing. It grants leases on one's own files and, with CAP_LEASE, on others'. Where it
//! grants none, `/proc/*/fd` shows what the processes one may look into have open.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};

use crate::content::OpenFile;
use crate::path::printable;

/// Looks for writers; remembers for a moment what `/proc` said, since reading all of it costs milliseconds.
#[derive(Debug, Default)]
pub struct Writers {
    read_last: Mutex<Option<(Instant, OpenFiles)>>,
}

/// Device and inode of each file.
type OpenFiles = HashSet<(u64, u64)>;

/// How long a reading of `/proc` serves.
const PROC_SERVES: Duration = Duration::from_millis(200);

const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;
const F_RDLCK: usize = 0;
const F_UNLCK: usize = 2;

enum Lease {
    Granted,
    HasWriter,
    NotForUs,
}

impl Writers {
    /// Whether anyone is known to have `file` open for writing.
    pub fn has_writer(&self, file: &OpenFile) -> bool {
        match try_lease(file) {
            Lease::Granted => false,
            Lease::HasWriter => true,
            Lease::NotForUs => self.proc_shows_writer(file),
        }
    }

    fn proc_shows_writer(&self, file: &OpenFile) -> bool {
        let Ok(metadata) = file.file.metadata() else { return false };
        let id = (metadata.dev(), metadata.ino());
        let mut read_last = self.read_last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*read_last {
            Some((at, files)) if at.elapsed() < PROC_SERVES => files.contains(&id),
            _ => {
                let files = open_for_writing();
                let found = files.contains(&id);
                *read_last = Some((Instant::now(), files));
                found
            }
        }
    }
}

/// Asks for a lease and gives it back at once. A writer that opens the file in between waits for that moment and makes
/// the kernel send us SIGIO, which the service ignores.
fn try_lease(file: &OpenFile) -> Lease {
    let fd = file.file.as_raw_fd();
    match nc::fcntl(fd, F_SETLEASE, F_RDLCK) {
        Ok(_) => {
            let _ = nc::fcntl(fd, F_SETLEASE, F_UNLCK);
            Lease::Granted
        }
        Err(nc::EAGAIN) => Lease::HasWriter,
        Err(_) => Lease::NotForUs,
    }
}

/// A file that nobody has open for writing, or mapped so, on the kernel's word. Whoever opens it for writing from here on
/// waits until this goes, and is seen; so does a change of its size by name.
#[derive(Debug)]
pub struct Leased(OpenFile);

/// Why there is no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLease {
    /// Somebody has it open for writing, or mapped so.
    HasWriter,
    /// The kernel does not say: the file is another user's and we lack CAP_LEASE, or its filesystem cannot know.
    Unknown,
}

impl Leased {
    /// Asks the kernel for its word.
    ///
    /// # Errors
    /// It does not give it.
    pub fn of(file: OpenFile) -> Result<Self, NoLease> {
        match nc::fcntl(file.file.as_raw_fd(), F_SETLEASE, F_RDLCK) {
            Ok(_) => Ok(Self(file)),
            Err(nc::EAGAIN) => Err(NoLease::HasWriter),
            Err(_) => Err(NoLease::Unknown),
        }
    }

    /// Whether nobody has come since who wants to write, and waits. After a time, `/proc/sys/fs/lease-break-time`, the
    /// kernel lets whoever waits go on.
    pub fn holds(&self) -> bool {
        let fd = self.0.file.as_raw_fd();
        let kind = nc::fcntl(fd, F_GETLEASE, 0);
        // One that the kernel counts already, and that has not come to where it waits, is only seen by asking anew.
        kind.is_ok_and(|kind| usize::try_from(kind) == Ok(F_RDLCK))
            && nc::fcntl(fd, F_SETLEASE, F_RDLCK).is_ok()
    }

    /// The file.
    pub fn file(&self) -> &OpenFile {
        &self.0
    }

    /// Lets writers come again, and keeps the file open.
    pub fn release(self) -> OpenFile {
        let _ = nc::fcntl(self.0.file.as_raw_fd(), F_SETLEASE, F_UNLCK);
        self.0
    }
}

/// Device and inode of every regular file that a process we may look into has open for writing.
fn open_for_writing() -> OpenFiles {
    let mut found = HashSet::new();
    each_open_for_writing(|_, id| {
        found.insert(id);
    });
    found
}

/// The processes that have the file at `path` open for writing, of those that we may look into, with their names.
pub fn writers_of(path: &Path) -> Vec<(u32, String)> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Vec::new() };
    let wanted = (metadata.dev(), metadata.ino());
    let mut pids = BTreeSet::new();
    each_open_for_writing(|pid, id| {
        if id == wanted {
            pids.insert(pid);
        }
    });
    let name = |pid| fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let named = |pid| (pid, printable(OsStr::from_bytes(name(pid).trim_ascii_end())));
    pids.into_iter().map(named).collect()
}

/// Tells of every regular file that a process we may look into has open for writing: the process, device and inode.
fn each_open_for_writing(mut each: impl FnMut(u32, (u64, u64))) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let info = process.path().join("fdinfo").join(descriptor.file_name());
            if !fs::read_to_string(info).is_ok_and(|info| says_writable(&info)) {
                continue;
            }
            // Its filesystem may be another one, whose server is away: what the kernel knows without it is enough.
            let flags = AtFlags::STATX_DONT_SYNC;
            if let Ok(stat) = statx(CWD, descriptor.path(), flags, StatxFlags::TYPE | StatxFlags::INO)
                && FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
            {
                each(pid, (makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino));
            }
        }
    }
}

/// Reads the access mode from the octal `flags:` line of a `/proc/PID/fdinfo/FD`.
fn says_writable(info: &str) -> bool {
    const ACCESS_MODE: u32 = 0o3;
    info.lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & ACCESS_MODE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::RootDir;
    use crate::path::LocalPath;
    use std::path::Path;

    #[test]
    fn a_writer_is_seen_by_the_lease_and_by_proc() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let open = || root.open_file(&LocalPath::new(Path::new("f")).unwrap()).unwrap();
        assert!(!Writers::default().has_writer(&open()));
        assert!(!Writers::default().proc_shows_writer(&open()));
        let writer = fs::OpenOptions::new().append(true).open(dir.path().join("f")).unwrap();
        assert!(Writers::default().has_writer(&open()));
        assert!(Writers::default().proc_shows_writer(&open()));
        let of_file = || writers_of(&dir.path().join("f"));
        assert_eq!(of_file().iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [std::process::id()]);
        drop(writer);
        assert!(of_file().is_empty());
        assert!(!Writers::default().has_writer(&open()));
    }

    #[tokio::test]
    async fn a_writer_that_comes_while_a_lease_is_held_waits_and_is_seen() {
        // What the kernel sends to whoever holds the lease ends a process that does not listen for it.
        let _sigio = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::io()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("f");
        fs::write(&at, "x").unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let open = || root.open_file(&LocalPath::new(Path::new("f")).unwrap()).unwrap();
        let reader = fs::File::open(&at).unwrap();
        let leased = Leased::of(open()).unwrap();
        assert!(leased.holds(), "readers do not matter");
        fs::rename(&at, dir.path().join("g")).unwrap();
        assert!(leased.holds(), "nor do other names");
        let (opening, path) = (std::sync::mpsc::channel(), dir.path().join("g"));
        let writer = std::thread::spawn(move || {
            let opened = fs::OpenOptions::new().append(true).open(path);
            opening.0.send(()).unwrap();
            opened.map(drop)
        });
        let is_held = || leased.holds();
        while is_held() {
            std::thread::yield_now();
        }
        assert!(opening.1.try_recv().is_err(), "it waits");
        drop(leased.release());
        writer.join().unwrap().unwrap();
        fs::rename(dir.path().join("g"), &at).unwrap();
        let writer = fs::OpenOptions::new().append(true).open(&at).unwrap();
        assert_eq!(Leased::of(open()).err(), Some(NoLease::HasWriter));
        drop((writer, reader));
        assert!(Leased::of(open()).is_ok());
    }

    #[test]
    fn readers_are_no_writers() {
        assert!(!says_writable("pos:\t0\nflags:\t02100000\n"));
        assert!(says_writable("pos:\t0\nflags:\t0100001\n"));
        assert!(says_writable("pos:\t0\nflags:\t0100002\n"));
        assert!(!says_writable("nonsense"));
    }
}
