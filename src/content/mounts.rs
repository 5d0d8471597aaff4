use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::RootDir;
use crate::path::LocalPath;

/// What is mounted below a folder, as the kernel says, and not as anything there answers: a filesystem whose server is away
/// may never do so, not even to `stat`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts(BTreeSet<LocalPath>);

impl Mounts {
    /// Those below `root` by now. None where the kernel does not say.
    pub fn below(root: &RootDir) -> Self {
        let (Ok(at), Ok(table)) = (root.real_path(), std::fs::read("/proc/self/mountinfo")) else {
            return Self::default();
        };
        Self::of(&table, &at)
    }

    fn of(table: &[u8], root: &Path) -> Self {
        // The fifth field is the mount point (proc_pid_mountinfo(5)).
        let points =
            table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        let below = points.filter_map(|point| {
            let point = OsString::from_vec(unescaped(point));
            LocalPath::below(root, Path::new(&point)).filter(|path| !path.is_root())
        });
        Self(below.collect())
    }

    /// Whether something is mounted at `path`.
    pub fn has(&self, path: &LocalPath) -> bool {
        self.0.contains(path)
    }

    /// Whether nothing is mounted anywhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_the_folder_are_found_by_whole_segments() {
        let table = b"21 28 0:20 / /proc rw - proc proc rw\n\
            30 28 8:1 / /data/camera rw shared:1 - ext4 /dev/sda1 rw\n\
            31 30 0:40 / /data/camera/the\\040nas rw - nfs4 nas:/x rw\n\
            32 30 0:41 / /data/camera/a/b\\134c rw - fuse x rw\n\
            33 28 0:42 / /data/camera2/other rw - tmpfs x rw\n\
            broken\n\n";
        let mounts = Mounts::of(table, Path::new("/data/camera"));
        let local = |path: &str| LocalPath::new(Path::new(path)).unwrap();
        assert_eq!(mounts, Mounts([local("the nas"), local("a/b\\c")].into()));
        assert!(mounts.has(&local("the nas")) && !mounts.has(&local("the nas/below")));
        assert!(Mounts::of(table, Path::new("/elsewhere")).is_empty());
    }

    #[test]
    fn a_name_is_unescaped_as_the_kernel_escapes() {
        for (escaped, name) in
            [("a\\040b", "a b"), ("\\134", "\\"), ("a\\", "a\\"), ("\\9zz", "\\9zz"), ("", "")]
        {
            assert_eq!(unescaped(escaped.as_bytes()), name.as_bytes());
        }
    }
}
