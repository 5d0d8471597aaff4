//! Patterns in gitignore's syntax: the ones that apply by default, and the check of those in the file.

use std::path::Path;

use ignore::gitignore::GitignoreBuilder;

use crate::path::printable;

/// Names that are left out unless the config says `default_excludes = false`: what programs write on the way to
/// a finished file, and what file systems keep for themselves. They stand before a folder's own `exclude`,
/// where `!PATTERN` takes a name back in.
///
/// A pattern stands here only if the name is a convention of a program and not a plausible name for data.
pub const DEFAULT_EXCLUDES: &[&str] = &[
    // Downloads and uploads on the way: Firefox and many others; rclone, wget; Chrome; Opera; aria2's control
    // file, there only while the file beside it is incomplete; WinSCP, common on instrument PCs.
    "*.part",
    "*.partial",
    "*.crdownload",
    "*.opdownload",
    "*.aria2",
    "*.filepart",
    // rsync writes NAME.EXT as .NAME.EXT. and six letters or digits of chance. The pattern demands two further dots, as
    // with one it would also take a hidden file whose ending has six letters, such as .index.sqlite; and a capital letter
    // in the ending, which chance gives to 96 of 100, as without it .settings.yml.backup would be taken.
    ".*.*.[A-Z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z]",
    ".*.*.[0-9A-Za-z][A-Z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z]",
    ".*.*.[0-9A-Za-z][0-9A-Za-z][A-Z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z]",
    ".*.*.[0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][A-Z][0-9A-Za-z][0-9A-Za-z]",
    ".*.*.[0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][A-Z][0-9A-Za-z]",
    ".*.*.[0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][A-Z]",
    // rsync --delay-updates, and the name its manual gives for --partial-dir.
    ".~tmp~/",
    ".rsync-partial/",
    // Nextcloud's client: .NAME.~HEX.
    ".*.~[0-9a-f]*",
    // ProFTPD's HiddenStores: .in.NAME. with a dot at the end.
    ".in.*.",
    // What every program understands as temporary; Syncthing and Unison end theirs so as well.
    "*.tmp",
    // GLib's atomic save (GNOME's editors and file manager).
    ".goutputstream-*",
    // Vim's swap files .NAME.swp, .swo … and Kate's.
    ".*.sw[a-p]",
    ".*.kate-swp",
    // Backups of Emacs, Vim, nano, gedit, Kate.
    "*~",
    // Emacs: autosave and lock.
    "\\#*#",
    ".#*",
    // LibreOffice's and Microsoft Office's lock files.
    ".~lock.*#",
    "~$*",
    // JetBrains' safe write.
    "*___jb_tmp___",
    "*___jb_old___",
    // A file that was removed while a program had it open, on NFS and FUSE.
    ".nfs[0-9a-f]*",
    ".fuse_hidden*",
    // What macOS, Windows and NAS systems put beside the data: view settings, previews, waste bins.
    ".DS_Store",
    "Thumbs.db",
    "@eaDir/",
    "\\#recycle/",
    "$RECYCLE.BIN/",
    "System Volume Information/",
    ".Trash-*/",
    // ext4's own directory at the root of a file system, readable by root alone.
    "lost+found/",
];

/// Why a pattern cannot be used, or nothing.
pub(super) fn fault(pattern: &str) -> Option<String> {
    if pattern.trim().is_empty() {
        return Some("an empty pattern matches nothing".to_owned());
    }
    if pattern.starts_with('#') {
        return Some("a pattern that begins with `#` is a comment and matches nothing".to_owned());
    }
    if pattern.contains(['\n', '\r', '\0']) {
        return Some("a pattern is one line".to_owned());
    }
    let mut builder = GitignoreBuilder::new("/");
    let fault = builder.add_line(None, pattern).err().or_else(|| builder.build().err())?;
    let why = match fault {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    };
    // It may speak of the characters of the pattern.
    Some(why.split('\\').map(printable).collect::<Vec<_>>().join("\\"))
}

/// Whether `exclude` leaves out every file of this name.
pub(super) fn excludes(exclude: &[String], name: &str) -> bool {
    matches_below_a_directory(exclude, name)
}

/// Whether `include` names files, none of this name. Where it names directories, files of any name may be meant.
pub(super) fn includes_none(include: &[String], name: &str) -> bool {
    !include.is_empty()
        && include.iter().all(|pattern| !pattern.contains('/'))
        && !matches_below_a_directory(include, name)
}

/// Whether the last of the patterns that matches a file of this name in some directory takes it.
fn matches_below_a_directory(patterns: &[String], name: &str) -> bool {
    let mut builder = GitignoreBuilder::new("/");
    for pattern in patterns {
        if builder.add_line(None, pattern).is_err() {
            return false;
        }
    }
    let some_file = Path::new("dir").join(name);
    builder.build().is_ok_and(|patterns| patterns.matched(some_file, false).is_ignore())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(path: &str, is_dir: bool) -> bool {
        let mut builder = GitignoreBuilder::new("/");
        for pattern in DEFAULT_EXCLUDES {
            builder.add_line(None, pattern).unwrap();
        }
        builder.build().unwrap().matched_path_or_any_parents(path, is_dir).is_ignore()
    }

    #[test]
    fn half_written_files_are_left_out() {
        for path in [
            "a/img.tif.part",
            "x.crdownload",
            "x.tif.filepart",
            ".img.tif.Ab3dEf",
            ".img.tif.ab3deF",
            "a/.~tmp~/img.tif",
            ".img.tif.~1a2b",
            ".in.img.tif.",
            "x.tmp",
            ".goutputstream-ABC123",
            ".notes.txt.swp",
            "notes.txt~",
            "#notes.txt#",
            ".#notes.txt",
            ".~lock.table.ods#",
            "~$table.xlsx",
            ".nfs000000000000002a00000001",
            ".fuse_hidden0000001",
            "a/.DS_Store",
            "@eaDir/img.tif",
            "#recycle/img.tif",
            "$RECYCLE.BIN/x",
            "System Volume Information/x",
            ".Trash-1000/files/x",
            "lost+found/x",
        ] {
            assert!(excluded(path, false), "{path}");
        }
    }

    #[test]
    fn data_is_not_left_out() {
        for path in [
            "img.tif",
            ".hidden",
            ".index.sqlite",
            ".settings.yml.backup",
            ".run.backup",
            "part",
            "img.part.tif",
            "tmp/img.tif",
            "a#b.csv",
            "#1 first run.csv",
            "~home.csv",
            "4913",
            "12:30:05.csv",
            "swp",
            "x.swp",
            ".oxenignore",
            ".config.yaml",
            "frame.000001",
            "Trash-1/x",
            "thumbs.db.csv",
            "lost+found.csv",
            ".nfsmap",
        ] {
            assert!(!excluded(path, false), "{path}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_work_is_told() {
        for bad in ["", "  ", "# note", "a\nb", "{a,b", "a[z-a]", "a\\"] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
        for good in ["*.tif", "!keep.tmp", "/raw/", "a/**/b", "\\#x"].iter().chain(DEFAULT_EXCLUDES) {
            assert_eq!(fault(good), None, "{good}");
        }
    }
}
