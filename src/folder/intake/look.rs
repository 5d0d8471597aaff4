use std::sync::Arc;

use super::super::examine::Examiner;
use super::super::filter::IGNORE_FILE;
use super::super::{Hint, TreeWatch};
use crate::content::{EntryKind, OpenError, Signature};
use crate::path::LocalPath;
use crate::state::{Reader, StateError};

/// What a hint turned out to be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// One path, which is to settle, with the file that stands there.
    Path(LocalPath, Option<Signature>),
    /// All below a directory is to be scanned.
    Tree(LocalPath),
    /// Everything is in doubt: what is watched, what is left out, and every file.
    Everything,
}

/// Looks at what hints point to, and keeps the watches with it: a new directory is watched before it is scanned.
pub(super) fn look(
    hints: Vec<Hint>,
    examiner: &Examiner,
    reader: &Reader,
    watch: Option<&Arc<TreeWatch>>,
) -> Result<Vec<Looked>, StateError> {
    let mut looked = Vec::new();
    for hint in hints {
        match hint {
            Hint::Tree(path) if path.is_root() => return Ok(vec![Looked::Everything]),
            Hint::Path(path) if path.as_bytes() == IGNORE_FILE.as_bytes() => {
                return Ok(vec![Looked::Everything]);
            }
            // So much happened below that single names were given up, among them those of new directories.
            Hint::Tree(path) => {
                if let Some(watch) = watch {
                    watch.uncover(&path);
                }
                look_at(path, examiner, reader, watch, &mut looked)?;
            }
            Hint::Path(path) => look_at(path, examiner, reader, watch, &mut looked)?,
        }
    }
    Ok(looked)
}

fn look_at(
    path: LocalPath,
    examiner: &Examiner,
    reader: &Reader,
    watch: Option<&Arc<TreeWatch>>,
    looked: &mut Vec<Looked>,
) -> Result<(), StateError> {
    if examiner.filter.excludes_file(&path) && examiner.filter.excludes_dir(&path) {
        return Ok(());
    }
    match examiner.root.look(&path) {
        Ok(EntryKind::Dir { device }) => {
            if examiner.filter.excludes_dir(&path) {
                return Ok(());
            }
            if let Some(watch) = watch.filter(|_| device == examiner.root.id().device) {
                watch.cover(&path, &examiner.root, &examiner.filter);
            }
            // What was known under this name as a file is gone.
            if examiner.state.file(examiner.folder, &path)?.is_some() {
                looked.push(Looked::Path(path.clone(), None));
            }
            looked.push(Looked::Tree(path));
        }
        // Nobody knows what stands there; the watches stay.
        Ok(EntryKind::Unknown | EntryKind::Mount) | Err(OpenError::Io(_) | OpenError::Mounted) => {
            looked.push(Looked::Path(path.clone(), None));
            looked.push(Looked::Tree(path));
        }
        // Whatever stands here now, it is no directory: what was known below is gone.
        found @ (Ok(EntryKind::File(_) | EntryKind::Symlink | EntryKind::Special)
        | Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink)) => {
            if let Some(watch) = watch {
                watch.uncover(&path);
            }
            if reader.has_files_below(examiner.folder, &path)? {
                looked.push(Looked::Tree(path.clone()));
            }
            let seen = match found {
                Ok(EntryKind::File(signature)) => Some(signature),
                _ => None,
            };
            looked.push(Looked::Path(path, seen));
        }
    }
    Ok(())
}
