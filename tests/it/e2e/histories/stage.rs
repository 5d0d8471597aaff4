//! Where it happens: the folder, and a place outside of it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use walkdir::WalkDir;

use super::steps::{Step, path_of};
use crate::support::rig::Rig;

/// What is outside of the folder.
pub(super) struct Stage {
    away: PathBuf,
    /// Files and directories that were moved out, the oldest first.
    moved: Vec<PathBuf>,
    count: u32,
}

impl Stage {
    /// One with nothing outside.
    pub(super) fn of(rig: &Rig) -> Self {
        let away = rig.dir().join("away");
        fs::create_dir(&away).unwrap();
        Self { away, moved: Vec::new(), count: 0 }
    }

    /// Does what a step says; what makes no sense as things stand does nothing.
    pub(super) fn act(&mut self, rig: &Rig, step: &Step) {
        let (files, dirs) = entries(&rig.folder);
        let file = |index: usize| (!files.is_empty()).then(|| files[index % files.len()].clone());
        let dir = |index: usize| (!dirs.is_empty()).then(|| dirs[index % dirs.len()].clone());
        match *step {
            Step::Create { place, len, fill } => {
                let path = path_of(place);
                if make_room(&rig.folder, &path) && !rig.folder.join(&path).is_dir() {
                    write(rig, &path, &bytes(len, fill));
                }
            }
            Step::Rewrite { file: index, len, fill } => {
                let Some(path) = file(index) else { return };
                write(rig, &path, &bytes(len, fill));
            }
            Step::Append { file: index, len, fill } => {
                let Some(path) = file(index) else { return };
                let more = bytes(len, fill);
                let mut content = fs::read(rig.folder.join(&path)).unwrap();
                content.extend_from_slice(&more);
                note_all_names(rig, &path, &content);
                let mut open = File::options().append(true).open(rig.folder.join(&path)).unwrap();
                open.write_all(&more).unwrap();
            }
            Step::SaveAtomically { file: index, len, fill } => {
                let Some(path) = file(index) else { return };
                let content = bytes(len, fill);
                note(rig, &path, &content);
                let beside = rig.folder.join(format!("{path}.tmp"));
                fs::write(&beside, content).unwrap();
                fs::rename(beside, rig.folder.join(&path)).unwrap();
            }
            Step::RewriteUnseen { file: index, fill } => {
                let Some(path) = file(index) else { return };
                let found = fs::metadata(rig.folder.join(&path)).unwrap();
                let content = bytes(usize::try_from(found.len()).unwrap(), fill);
                note_all_names(rig, &path, &content);
                let mut open = File::options().write(true).open(rig.folder.join(&path)).unwrap();
                open.write_all(&content).unwrap();
                open.set_modified(found.modified().unwrap()).unwrap();
            }
            Step::RenameFile { file: index, place } => {
                let (Some(from), to) = (file(index), path_of(place)) else { return };
                if make_room(&rig.folder, &to) && !rig.folder.join(&to).is_dir() {
                    note(rig, &to, &fs::read(rig.folder.join(&from)).unwrap());
                    fs::rename(rig.folder.join(from), rig.folder.join(to)).unwrap();
                }
            }
            Step::RenameDir { dir: index, place } => {
                let (Some(from), to) = (dir(index), path_of(place)) else { return };
                let is_below = to == from || to.starts_with(&format!("{from}/"));
                if !is_below
                    && make_room(&rig.folder, &to)
                    && fs::symlink_metadata(rig.folder.join(&to)).is_err()
                {
                    move_in(rig, &rig.folder.join(from), &to);
                }
            }
            Step::Delete { file: index } => {
                let Some(path) = file(index) else { return };
                fs::remove_file(rig.folder.join(path)).unwrap();
            }
            Step::DeleteDir { dir: index } => {
                let Some(path) = dir(index) else { return };
                fs::remove_dir_all(rig.folder.join(path)).unwrap();
            }
            Step::Chmod { file: index, mode } => {
                let Some(path) = file(index) else { return };
                fs::set_permissions(rig.folder.join(path), Permissions::from_mode(mode)).unwrap();
            }
            Step::Symlink { file: index, place } => {
                let path = path_of(place);
                if make_room(&rig.folder, &path) && fs::symlink_metadata(rig.folder.join(&path)).is_err() {
                    let to = file(index).map_or_else(|| "nowhere".into(), |file| rig.folder.join(file));
                    symlink(to, rig.folder.join(path)).unwrap();
                }
            }
            Step::HardLink { file: index, place } => {
                let (Some(from), to) = (file(index), path_of(place)) else { return };
                if make_room(&rig.folder, &to) && fs::symlink_metadata(rig.folder.join(&to)).is_err() {
                    note(rig, &to, &fs::read(rig.folder.join(&from)).unwrap());
                    fs::hard_link(rig.folder.join(from), rig.folder.join(to)).unwrap();
                }
            }
            Step::MakeDirs { place } => {
                let path = path_of(place);
                if make_room(&rig.folder, &path) && fs::symlink_metadata(rig.folder.join(&path)).is_err() {
                    fs::create_dir(rig.folder.join(path)).unwrap();
                }
            }
            Step::MoveFileOut { file: index } => {
                let Some(path) = file(index) else { return };
                self.move_out(&rig.folder.join(path));
            }
            Step::MoveDirOut { dir: index } => {
                let Some(path) = dir(index) else { return };
                self.move_out(&rig.folder.join(path));
            }
            Step::MoveIn { place } => {
                let path = path_of(place);
                if !self.moved.is_empty()
                    && make_room(&rig.folder, &path)
                    && fs::symlink_metadata(rig.folder.join(&path)).is_err()
                {
                    move_in(rig, &self.moved.remove(0), &path);
                }
            }
            Step::Wait { .. } | Step::Fault { .. } | Step::Kill | Step::Stop | Step::CutConnections => {}
        }
    }

    fn move_out(&mut self, from: &Path) {
        self.count += 1;
        let to = self.away.join(self.count.to_string());
        fs::rename(from, &to).unwrap();
        self.moved.push(to);
    }
}

/// The files and the directories of a folder, in order.
fn entries(folder: &Path) -> (Vec<String>, Vec<String>) {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if entry.file_type().is_file() {
            files.push(path);
        } else if entry.file_type().is_dir() {
            dirs.push(path);
        }
    }
    (files, dirs)
}

/// Makes the directories above a path; says whether nothing else stands in their place.
fn make_room(folder: &Path, path: &str) -> bool {
    let Some((dirs, _)) = path.rsplit_once('/') else { return true };
    let mut at = folder.to_path_buf();
    dirs.split('/').all(|name| {
        at.push(name);
        match fs::symlink_metadata(&at) {
            Ok(found) => found.is_dir(),
            Err(_) => fs::create_dir(&at).is_ok(),
        }
    })
}

/// No two of them are alike by chance, and a few are on purpose.
fn bytes(len: usize, fill: u8) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut content = vec![fill; len];
    if fill >= 16 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        content.iter_mut().zip(number).for_each(|(byte, digit)| *byte = digit);
    }
    content
}

fn note(rig: &Rig, path: &str, content: &[u8]) {
    rig.ledger.finished(&rig.on_branch(path), content);
}

/// Notes a content for every name that a file has in the folder.
fn note_all_names(rig: &Rig, path: &str, content: &[u8]) {
    let inode = fs::metadata(rig.folder.join(path)).unwrap().ino();
    for name in entries(&rig.folder).0 {
        if fs::metadata(rig.folder.join(&name)).unwrap().ino() == inode {
            note(rig, &name, content);
        }
    }
}

fn write(rig: &Rig, path: &str, content: &[u8]) {
    let file = rig.folder.join(path);
    match fs::symlink_metadata(&file) {
        Ok(found) if found.is_file() => note_all_names(rig, path, content),
        // A write through a link would go elsewhere.
        Ok(_) => return,
        Err(_) => note(rig, path, content),
    }
    fs::write(file, content).unwrap();
}

/// Moves a file or a directory into the folder.
fn move_in(rig: &Rig, from: &Path, to: &str) {
    if from.is_file() {
        note(rig, to, &fs::read(from).unwrap());
    } else {
        for file in entries(from).0 {
            note(rig, &format!("{to}/{file}"), &fs::read(from.join(&file)).unwrap());
        }
    }
    fs::rename(from, rig.folder.join(to)).unwrap();
}
