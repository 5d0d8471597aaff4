//! Taking a file off: first to a name that nobody else knows, and from there away or back.
//!
//! A name can come to mean another file between any look at it and its removal. A rename takes whatever stands at the
//! name, at once; what it took is then looked at, and goes back where it is not the file that was meant.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Access, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::root::kind_of;
use super::{EntryKind, OpenError, OpenFile, RootDir, Signature};
use crate::path::LocalPath;

/// What the name of a file begins with while it is being taken off.
const PREFIX: &[u8] = b".oxen-sync-taking-off.";
/// The longest name of a file, in bytes.
const NAME_LEN_MAX: usize = 255;

/// The name that a file called `name` has while it is being taken off: always the same, and with the file's own name in it,
/// so that it is found and put back even when nothing is remembered. `None` where that would be too long for a name.
pub fn apart_name(name: &OsStr) -> Option<OsString> {
    let apart = [PREFIX, name.as_bytes()].concat();
    (apart.len() <= NAME_LEN_MAX).then(|| OsStr::from_bytes(&apart).to_os_string())
}

/// The own name of a file that is called `apart` while it is being taken off; `None` for a file of any other name.
pub fn own_name(apart: &OsStr) -> Option<&OsStr> {
    let own = apart.as_bytes().strip_prefix(PREFIX)?;
    (!matches!(own, b"" | b"." | b"..")).then(|| OsStr::from_bytes(own))
}

/// Whether a file of this name is one that is being taken off. It is never pushed.
pub fn is_apart(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX)
}

/// What became of putting a file back under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// It stands there again.
    Done,
    /// There was nothing to put back.
    Gone,
    /// Something else stands at its name by now; it was left where it was.
    Taken,
}

/// A file under the name that nobody else knows.
#[derive(Debug)]
pub struct Apart<'a> {
    root: &'a RootDir,
    /// Where it stands by that name, in the folder.
    at: LocalPath,
    dir: OwnedFd,
    name: OsString,
    apart: OsString,
}

impl RootDir {
    /// Gives whatever stands at `path` the name that nobody else knows.
    ///
    /// # Errors
    /// As the kernel says, with nothing changed: where something of that name is there already, the folder may not be
    /// written to, or its filesystem cannot rename without replacing.
    pub fn set_apart(&self, path: &LocalPath) -> Result<Apart<'_>, OpenError> {
        let apart = self.apart(path)?;
        let _call = self.calls().begin();
        rename(&apart.dir, &apart.name, &apart.dir, &apart.apart)?;
        Ok(apart)
    }

    /// Whether files in the directory `dir` may be given other names, and be deleted.
    ///
    /// # Errors
    /// They may not, as the kernel says.
    pub fn may_change(&self, dir: &LocalPath) -> Result<(), OpenError> {
        let _call = self.calls().begin();
        let dir = self.descend(dir, OFlags::PATH | OFlags::DIRECTORY)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        Ok(rustix::fs::accessat(&dir, ".", access, AtFlags::EACCESS)?)
    }

    /// The file that an earlier life gave that name may be.
    fn apart(&self, path: &LocalPath) -> Result<Apart<'_>, OpenError> {
        let _call = self.calls().begin();
        let parent = path.parent().ok_or(OpenError::NotAFile)?;
        let dir = self.descend(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let name = path.name().to_os_string();
        let apart = apart_name(&name).ok_or(OpenError::Io(Errno::NAMETOOLONG.into()))?;
        Ok(Apart { root: self, at: parent.join(&apart), dir, apart, name })
    }

    /// Puts back what an earlier life left under the name that nobody else knows.
    ///
    /// # Errors
    /// As the kernel says; then it is not known what stands where.
    pub fn put_back(&self, path: &LocalPath) -> Result<PutBack, OpenError> {
        match self.apart(path) {
            Ok(apart) => apart.put_back(),
            Err(OpenError::Gone) => Ok(PutBack::Gone),
            Err(error) => Err(error),
        }
    }

    /// The directory `path` below this one, made where it is missing, with those above it. A directory that is made may be
    /// entered by those who may enter the one of the same path in `like`.
    ///
    /// # Errors
    /// As the kernel says, also where something else stands in its place.
    pub fn make_dir(&self, path: &LocalPath, like: &Self) -> Result<OwnedFd, OpenError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.descend(path, flags) {
            Err(OpenError::Gone) => {}
            other => return other,
        }
        let _call = self.calls().begin();
        let mut dir = self.descend(&LocalPath::root(), flags)?;
        let mut at = LocalPath::root();
        for segment in path.as_path() {
            at = at.join(segment);
            match rustix::fs::mkdirat(&dir, segment, Mode::from_raw_mode(0o777)) {
                // Whatever the umask of a service is: files that nobody can come to any more are as good as lost.
                Ok(()) => {
                    let mode = rustix::fs::fstat(like.descend(&at, flags)?)?.st_mode & 0o777;
                    rustix::fs::chmodat(&dir, segment, Mode::from_raw_mode(mode | 0o700), AtFlags::empty())?;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            dir =
                rustix::fs::openat(&dir, segment, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        }
        Ok(dir)
    }
}

impl Apart<'_> {
    /// Whether it is the file that `opened` holds open, of the size and time of `known`, and still stands in the folder: its
    /// directory may have been moved elsewhere, by somebody who wants the file there.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn is(&self, opened: &OpenFile, known: &Signature) -> Result<bool, OpenError> {
        let _call = self.root.calls().begin();
        let found = rustix::fs::fstat(self.root.descend(&self.at, OFlags::PATH)?)?;
        let held = rustix::fs::fstat(&opened.file)?;
        // Its `ctime` is that of the rename by now.
        Ok((found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)
            && matches!(kind_of(&found), EntryKind::File(by_now)
                if Signature { ctime_ns: known.ctime_ns, ..by_now } == *known))
    }

    /// Deletes it.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn delete(&self) -> io::Result<()> {
        let _call = self.root.calls().begin();
        Ok(rustix::fs::unlinkat(&self.dir, &self.apart, AtFlags::empty())?)
    }

    /// Moves it into the directory `to`, under its own name. Says whether nothing of that name was there; nothing is ever
    /// replaced.
    ///
    /// # Errors
    /// As the kernel says; then it is where it was.
    pub fn move_to(&self, to: &OwnedFd) -> io::Result<bool> {
        let _call = self.root.calls().begin();
        match rename(&self.dir, &self.apart, to, &self.name) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives it its own name back, unless something else has that by now.
    ///
    /// # Errors
    /// As the kernel says; then it is where it was.
    pub fn put_back(&self) -> Result<PutBack, OpenError> {
        let _call = self.root.calls().begin();
        match rename(&self.dir, &self.apart, &self.dir, &self.name) {
            Ok(()) => Ok(PutBack::Done),
            Err(Errno::NOENT) => Ok(PutBack::Gone),
            Err(Errno::EXIST) => Ok(PutBack::Taken),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether something stands at `name` in `dir`.
///
/// # Errors
/// As the kernel says.
pub fn is_taken(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn rename(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<(), Errno> {
    rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn folder() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "1").unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_file_goes_to_a_name_of_its_own_and_back() {
        let (dir, root) = folder();
        let opened = root.open_file(&local("d/f")).unwrap();
        let apart = root.set_apart(&local("d/f")).unwrap();
        assert!(!dir.path().join("d/f").exists());
        assert!(apart.is(&opened, &opened.signature).unwrap());
        assert_eq!(apart.put_back().unwrap(), PutBack::Done);
        assert_eq!(root.put_back(&local("d/f")).unwrap(), PutBack::Gone);
        assert_eq!(fs::read(dir.path().join("d/f")).unwrap(), b"1");
        root.set_apart(&local("d/f")).unwrap().delete().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 0);
        assert!(matches!(root.set_apart(&local("d/f")), Err(OpenError::Gone)));
        assert_eq!(root.put_back(&local("gone/f")).unwrap(), PutBack::Gone);
    }

    #[test]
    fn another_file_of_the_name_is_seen_to_be_one() {
        let (dir, root) = folder();
        let opened = root.open_file(&local("d/f")).unwrap();
        fs::write(dir.path().join("new"), "1").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("d/f")).unwrap();
        let apart = root.set_apart(&local("d/f")).unwrap();
        assert!(!apart.is(&opened, &opened.signature).unwrap());
        // And one that came meanwhile is not replaced.
        fs::write(dir.path().join("d/f"), "2").unwrap();
        assert_eq!(apart.put_back().unwrap(), PutBack::Taken);
        assert_eq!(fs::read(dir.path().join("d/f")).unwrap(), b"2");
        assert_eq!(fs::read(dir.path().join("d").join(apart_name("f".as_ref()).unwrap())).unwrap(), b"1");
        assert!(
            matches!(root.set_apart(&local("d/f")), Err(OpenError::Io(_))),
            "nor is what an earlier life left"
        );
    }

    #[test]
    fn a_move_makes_directories_and_replaces_nothing() {
        let (dir, root) = folder();
        let pushed = tempfile::tempdir_in(dir.path()).unwrap();
        let to = RootDir::open(pushed.path()).unwrap();
        let there = to.make_dir(&local("d"), &root).unwrap();
        assert!(!is_taken(&there, "f".as_ref()).unwrap());
        assert!(root.set_apart(&local("d/f")).unwrap().move_to(&there).unwrap());
        assert_eq!(fs::read(pushed.path().join("d/f")).unwrap(), b"1");
        fs::write(dir.path().join("d/f"), "2").unwrap();
        let apart = root.set_apart(&local("d/f")).unwrap();
        assert!(!apart.move_to(&to.make_dir(&local("d"), &root).unwrap()).unwrap());
        assert_eq!(apart.put_back().unwrap(), PutBack::Done);
        assert_eq!(fs::read(pushed.path().join("d/f")).unwrap(), b"1");
        std::os::unix::fs::symlink(dir.path(), pushed.path().join("link")).unwrap();
        assert!(to.make_dir(&local("link/x"), &root).is_err(), "a link leads nowhere");
    }

    #[test]
    fn a_file_whose_directory_went_elsewhere_is_not_the_folders_any_more() {
        let (dir, root) = folder();
        let opened = root.open_file(&local("d/f")).unwrap();
        let apart = root.set_apart(&local("d/f")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(dir.path().join("d"), elsewhere.path().join("d")).unwrap();
        assert!(matches!(apart.is(&opened, &opened.signature), Err(OpenError::Gone)));
        assert_eq!(apart.put_back().unwrap(), PutBack::Done);
        assert_eq!(fs::read(elsewhere.path().join("d/f")).unwrap(), b"1");
    }

    #[test]
    fn whoever_may_enter_a_directory_may_enter_the_one_that_is_made_after_it() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, root) = folder();
        fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o775)).unwrap();
        let pushed = tempfile::tempdir().unwrap();
        RootDir::open(pushed.path()).unwrap().make_dir(&local("d"), &root).unwrap();
        assert_eq!(fs::metadata(pushed.path().join("d")).unwrap().permissions().mode() & 0o777, 0o775);
    }

    #[test]
    fn the_name_apart_says_whose_it_is() {
        let apart = apart_name("a.tif".as_ref()).unwrap();
        assert_eq!(apart, ".oxen-sync-taking-off.a.tif");
        assert_eq!(own_name(&apart), Some("a.tif".as_ref()));
        assert!(is_apart(&apart) && !is_apart("a.tif".as_ref()));
        for other in ["a.tif", ".oxen-sync-taking-off.", ".oxen-sync-taking-off..."] {
            assert_eq!(own_name(other.as_ref()), None, "{other}");
        }
        let longest = "x".repeat(NAME_LEN_MAX - PREFIX.len());
        assert!(apart_name(longest.as_ref()).is_some());
        assert_eq!(apart_name(format!("{longest}x").as_ref()), None);
    }
}
