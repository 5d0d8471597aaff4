//! Reading a file that is small if it is what it should be, without ever waiting or filling the memory for one that
//! is not.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmallFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is larger than {} KiB", .0 >> 10)]
    TooLarge(u64),
}

/// The content of a regular file of at most `len_max` bytes, and what the opened file is. Symlinks are followed.
pub(crate) fn read_small(path: &Path, len_max: u64) -> Result<(Vec<u8>, Metadata), SmallFileError> {
    // Opening a pipe must not wait for its writer, nor a terminal become ours.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SmallFileError::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max {
        return Err(SmallFileError::TooLarge(len_max));
    }
    Ok((bytes, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn what_is_no_small_file_is_refused_without_waiting_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zeros")).unwrap();
        for at in [dir.path().to_path_buf(), path("pipe"), path("zeros"), "/dev/zero".into()] {
            assert!(matches!(read_small(&at, 10), Err(SmallFileError::NotAFile)), "{at:?}");
        }
        // Holes: reading it whole would take the memory of a day.
        File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(read_small(&path("huge"), 10), Err(SmallFileError::TooLarge(10))));
        std::fs::write(path("small"), "0123456789").unwrap();
        assert_eq!(read_small(&path("small"), 10).unwrap().0, b"0123456789");
    }
}
