use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::signature::token;
use super::{Calls, DirEntries, Mounts, OpenFile, Signature};
use crate::path::LocalPath;

/// A folder held open, so that everything below is reached through it and nothing outside of it can be.
///
/// No call follows a symlink on any segment below the folder, or enters another filesystem (`openat2` with
/// `RESOLVE_NO_SYMLINKS`, `RESOLVE_BENEATH` and `RESOLVE_NO_XDEV`, Linux 5.6), so a link swapped in while we look leads
/// nowhere. The folder's own path may
/// hold symlinks: its owner wrote it in the config.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
    id: RootId,
    calls: Arc<Calls>,
}

/// Which directory a path led to: another one has another identity, also when it is empty or carries the same
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootId {
    /// The filesystem's device number.
    pub device: u64,
    /// The directory's inode.
    pub inode: u64,
    /// When it was made, in nanoseconds since the epoch, where the filesystem tells: the root of every filesystem of a
    /// kind has the same inode.
    pub born_ns: Option<i64>,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with its signature.
    File(Signature),
    /// A directory, with its filesystem's device number.
    Dir {
        /// Differs from the folder's own where another filesystem is mounted.
        device: u64,
    },
    /// A symlink; never followed.
    Symlink,
    /// A socket, pipe or device.
    Special,
    /// Another filesystem is mounted there, and was not looked at.
    Mount,
    /// Something that cannot be looked at.
    Unknown,
}

/// Why something below a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there any more.
    #[error("it is gone")]
    Gone,
    /// There is no regular file at the path (any more).
    #[error("it is not a regular file")]
    NotAFile,
    /// A segment on the way is a symlink.
    #[error("a symlink stands on the way to it; symlinks are not followed")]
    Symlink,
    /// The way to it leads into another filesystem.
    #[error("another filesystem is mounted on the way to it; add a folder of its own to sync it")]
    Mounted,
    /// The kernel says no.
    #[error("{}", describe(.0))]
    Io(#[source] io::Error),
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it may not be read; give the user that runs oxen-sync read access".to_owned()
        }
        _ => error.to_string(),
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Gone,
            Errno::LOOP => Self::Symlink,
            Errno::XDEV => Self::Mounted,
            Errno::NXIO | Errno::ISDIR => Self::NotAFile,
            other => Self::Io(other.into()),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Errno::from_raw_os_error(code).into(),
            None => Self::Io(error),
        }
    }
}

/// Whether a look found that no regular file stands at the path. An error that says nothing about that is `false`.
pub fn is_absent(found: &Result<EntryKind, OpenError>) -> bool {
    match found {
        Ok(EntryKind::File(_) | EntryKind::Unknown | EntryKind::Mount)
        | Err(OpenError::Io(_) | OpenError::Mounted) => false,
        Ok(EntryKind::Dir { .. } | EntryKind::Symlink | EntryKind::Special) => true,
        Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => true,
    }
}

/// Whether a look found the regular file with this signature.
pub fn is_file(found: &Result<EntryKind, OpenError>, signature: &Signature) -> bool {
    matches!(found, Ok(EntryKind::File(by_now)) if by_now == signature)
}

impl RootDir {
    /// Opens the folder at the absolute `path`.
    ///
    /// # Errors
    /// The folder is not there, is no directory, or may not be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_counted(path, &Arc::default())
    }

    /// The same, with every call into it counted in `calls`, from this one on.
    ///
    /// # Errors
    /// As [`RootDir::open`].
    pub fn open_counted(path: &Path, calls: &Arc<Calls>) -> io::Result<Self> {
        let _call = calls.begin();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let id = RootId::of(&fd)?;
        Ok(Self { fd, path: path.to_path_buf(), id, calls: Arc::clone(calls) })
    }

    /// The calls into it that are under way.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Where the directory stands by now, with no link on the way.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn real_path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// The absolute path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which directory this is.
    pub fn id(&self) -> RootId {
        self.id
    }

    /// Whether the path still leads to the directory that is held open.
    ///
    /// # Errors
    /// Nothing can be found at the path.
    pub fn is_current(&self) -> io::Result<bool> {
        let _call = self.calls.begin();
        let by_now = rustix::fs::stat(&self.path)?;
        // On a network filesystem another directory may have got the number of one that is gone.
        rustix::fs::fstat(&self.fd)?;
        Ok((by_now.st_dev, by_now.st_ino) == (self.id.device, self.id.inode))
    }

    /// The magic number of the filesystem (`statfs`).
    ///
    /// # Errors
    /// As the kernel says.
    pub fn filesystem_magic(&self) -> io::Result<i64> {
        let _call = self.calls.begin();
        #[expect(clippy::useless_conversion, reason = "f_type differs between targets")]
        Ok(i64::try_from(rustix::fs::fstatfs(&self.fd)?.f_type).unwrap_or(0))
    }

    /// What stands at `path`, without following a link.
    ///
    /// # Errors
    /// [`OpenError::Gone`] where nothing stands, [`OpenError::Mounted`] where another filesystem does.
    pub fn look(&self, path: &LocalPath) -> Result<EntryKind, OpenError> {
        let _call = self.calls.begin();
        if path.is_root() {
            return Ok(kind_of(&rustix::fs::fstat(&self.fd)?));
        }
        // By steps that enter no mount, the last one too: what is mounted there may never answer.
        Ok(kind_of(&rustix::fs::fstat(self.descend(path, OFlags::PATH)?)?))
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// # Errors
    /// It is gone, is no regular file, a symlink stands on the way, or it may not be read.
    pub fn open_file(&self, path: &LocalPath) -> Result<OpenFile, OpenError> {
        let _call = self.calls.begin();
        // NONBLOCK: a pipe that took the file's place must not hold us.
        let fd = self.descend(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&fd)?;
        match kind_of(&stat) {
            EntryKind::File(signature) => Ok(OpenFile {
                file: File::from(fd),
                signature,
                calls: Arc::clone(&self.calls),
                closing: None,
            }),
            _ => Err(OpenError::NotAFile),
        }
    }

    /// What stands in the directory `path`. An entry that vanishes meanwhile is left out, and one of
    /// `mounts` is not looked at: what is mounted there may never answer.
    ///
    /// # Errors
    /// The directory cannot be read to its end; then nothing at all is said about it.
    pub fn read_dir(&self, path: &LocalPath, mounts: &Mounts) -> Result<DirEntries, OpenError> {
        let mut entries = DirEntries::default();
        self.each_name(path, |dir, name, _| {
            let kind = if !mounts.is_empty() && mounts.has(&path.join(name)) {
                EntryKind::Mount
            } else {
                match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => kind_of(&stat),
                    Err(Errno::NOENT) => return,
                    // One entry that is broken says nothing about the others.
                    Err(_) => EntryKind::Unknown,
                }
            };
            entries.push(name, kind);
        })?;
        entries.sort();
        Ok(entries)
    }

    /// The directories in the directory `path` that lie on the folder's own filesystem, in no order. Looks at nothing else
    /// that stands there.
    ///
    /// # Errors
    /// As [`RootDir::read_dir`].
    pub fn dirs_in(&self, path: &LocalPath, mounts: &Mounts) -> Result<Vec<LocalPath>, OpenError> {
        let mut dirs = Vec::new();
        self.each_name(path, |dir, name, kind| {
            if !matches!(kind, FileType::Directory | FileType::Unknown) {
                return;
            }
            let below = path.join(name);
            if mounts.has(&below) {
                return;
            }
            let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| kind_of(&stat));
            if found.is_ok_and(|kind| kind == (EntryKind::Dir { device: self.id.device })) {
                dirs.push(below);
            }
        })?;
        Ok(dirs)
    }

    /// Hands over each name in a directory, with what the directory says it is; to look at it counts as the same call.
    fn each_name(
        &self,
        path: &LocalPath,
        mut each: impl FnMut(&OwnedFd, &OsStr, FileType),
    ) -> Result<(), OpenError> {
        let call = self.calls.begin();
        let fd = self.descend(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&fd)? {
            call.moved();
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                each(&fd, OsStr::from_bytes(name), entry.file_type());
            }
        }
        Ok(())
    }

    pub(super) fn descend(&self, path: &LocalPath, flags: OFlags) -> Result<OwnedFd, OpenError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_root() {
            return Ok(rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?);
        }
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.fd, path.as_path(), flags, Mode::empty(), resolve) {
            // Kernels before 5.6, sandboxes that do not know the call, and paths of more than 4095 bytes.
            Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => self.descend_by_steps(path, flags),
            other => Ok(other?),
        }
    }

    fn descend_by_steps(&self, path: &LocalPath, flags: OFlags) -> Result<OwnedFd, OpenError> {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut dir: Option<OwnedFd> = None;
        let mut segments = path.as_path().iter().peekable();
        while let Some(segment) = segments.next() {
            let at = dir.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let flags = if segments.peek().is_some() { step } else { flags };
            let next = rustix::fs::openat(at, segment, flags, Mode::empty())?;
            // Only of directories: on an overlay, files carry the number of the filesystem that they really lie on.
            if flags.contains(OFlags::DIRECTORY) && rustix::fs::fstat(&next)?.st_dev != self.id.device {
                return Err(OpenError::Mounted);
            }
            dir = Some(next);
        }
        dir.ok_or(OpenError::Gone)
    }
}

impl RootId {
    fn of(fd: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(fd)?;
        // Kernels before 4.11 and some filesystems do not tell.
        let born_ns = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)
            .ok()
            .filter(|found| found.stx_mask & StatxFlags::BTIME.bits() != 0)
            .map(|found| token(found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
        Ok(Self { device: stat.st_dev, inode: stat.st_ino, born_ns })
    }

    /// Whether both are one directory, also when it was unmounted and mounted again in between: a device may get
    /// another number then.
    pub fn is_same(&self, other: &Self) -> bool {
        let born = (self.born_ns, other.born_ns);
        self.inode == other.inode && !matches!(born, (Some(one), Some(another)) if one != another)
    }
}

pub(super) fn kind_of(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File(Signature::of(stat)),
        FileType::Directory => EntryKind::Dir { device: stat.st_dev },
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    #[test]
    fn no_symlink_leads_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let folder = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("dir")).unwrap();
        symlink(outside.path().join("secret"), folder.path().join("file")).unwrap();
        let root = RootDir::open(folder.path()).unwrap();
        for path in ["dir/secret", "file"] {
            assert!(matches!(root.open_file(&local(path)), Err(OpenError::Symlink)), "{path}");
            let by_steps = root.descend_by_steps(&local(path), OFlags::RDONLY | OFlags::NOFOLLOW);
            assert!(matches!(by_steps, Err(OpenError::Symlink | OpenError::Gone)), "{path}");
        }
        assert_eq!(root.look(&local("file")).unwrap(), EntryKind::Symlink);
    }

    #[test]
    fn a_pipe_in_place_of_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("p");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let root = RootDir::open(folder.path()).unwrap();
        assert!(matches!(root.open_file(&local("p")), Err(OpenError::NotAFile)));
        assert_eq!(root.look(&local("p")).unwrap(), EntryKind::Special);
    }

    #[test]
    fn a_path_longer_than_the_kernels_limit_is_walked_by_steps() {
        let folder = tempfile::tempdir().unwrap();
        let root = RootDir::open(folder.path()).unwrap();
        let segment = "d".repeat(250);
        let mut path = LocalPath::root();
        for _ in 0..20 {
            let at = root.descend(&path, OFlags::PATH | OFlags::DIRECTORY).unwrap();
            rustix::fs::mkdirat(at, segment.as_str(), Mode::from_raw_mode(0o700)).unwrap();
            path = path.join(segment.as_ref());
        }
        let at = root.descend(&path, OFlags::PATH | OFlags::DIRECTORY).unwrap();
        let file = rustix::fs::openat(at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
        drop(file.unwrap());
        let path = path.join("f".as_ref());
        assert_eq!(root.open_file(&path).unwrap().signature.size, 0);
        assert!(matches!(root.look(&path).unwrap(), EntryKind::File(_)));
    }

    #[test]
    fn a_folder_made_anew_is_another_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("f");
        fs::create_dir(&path).unwrap();
        let root = RootDir::open(&path).unwrap();
        assert!(root.is_current().unwrap());
        fs::rename(&path, parent.path().join("g")).unwrap();
        assert!(root.is_current().is_err());
        fs::create_dir(&path).unwrap();
        assert!(!root.is_current().unwrap());
    }

    #[test]
    fn directories_alone_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["d/e", "f"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("file"), "1").unwrap();
        std::os::unix::fs::symlink("d", folder.path().join("link")).unwrap();
        let root = RootDir::open(folder.path()).unwrap();
        let in_dir = |path: &LocalPath| {
            let mut dirs = root.dirs_in(path, &Mounts::default()).unwrap();
            dirs.sort();
            dirs.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(in_dir(&LocalPath::root()), ["d", "f"]);
        assert_eq!(in_dir(&LocalPath::new(Path::new("d")).unwrap()), ["d/e"]);
        assert!(root.dirs_in(&LocalPath::new(Path::new("link")).unwrap(), &Mounts::default()).is_err());
    }

    #[test]
    fn a_directory_is_listed_in_the_order_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "Z"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("sub")).unwrap();
        let entries =
            RootDir::open(folder.path()).unwrap().read_dir(&LocalPath::root(), &Mounts::default()).unwrap();
        let names: Vec<_> = entries.iter().map(|e| e.name.to_str().unwrap()).collect();
        assert_eq!(names, ["Z", "a", "b", "sub"]);
        assert!(matches!(entries.get(3).unwrap().kind, EntryKind::Dir { .. }));
    }
}
