//! The look at one path whose time has come: what is it, has it changed, and may it be taken?

use std::io::ErrorKind;
use std::sync::Arc;

use super::writers::Writers;
use super::{Due, Filter, Runs};
use crate::content::{
    EntryKind, Hashed, OpenError, ReadError, RootDir, Signature, Wanted, hash_file, hash_snapshot,
};
use crate::path::{LocalPath, Refusal};
use crate::state::{
    Change, ChangeKind, Confirmed, FileRow, FolderKey, PlaceError, PlaceKey, Places, Presence, ProblemKind,
    ProblemRow, RESUMED_MIN, State, StateError,
};

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// Nothing to do: it is as it is known, or it does not count.
    Nothing,
    /// It is a file of a run that is not finished.
    HeldBack,
    /// It is moving, or someone writes to it; its signature by now.
    Moving(Option<Signature>),
    /// It is a directory.
    Directory,
    /// It is gone, and waits for someone to say that it may go from the branch; that is written down.
    Removed,
    /// It is finished and differs from the branch.
    Finished(Change),
    /// It cannot be taken as it is; the problem is written down.
    Problem {
        /// The problem.
        row: ProblemRow,
        /// Whether it is another one than before.
        is_new: bool,
        /// Whether it may pass by itself, without anybody touching the file.
        passes: bool,
    },
}

/// What an examination works with.
#[derive(Debug, Clone)]
pub struct Examiner {
    /// The folder.
    pub root: Arc<RootDir>,
    /// What counts in it.
    pub filter: Arc<Filter>,
    /// What is known of it.
    pub state: State,
    /// Its number there.
    pub folder: FolderKey,
    /// Where its files stand on the branch.
    pub places: Arc<Places>,
    /// Larger files are refused, in bytes.
    pub max_file_size: Option<u64>,
    /// Whether a file that is gone here is to go from the branch.
    pub mirror: bool,
    /// Looks for writers.
    pub writers: Arc<Writers>,
    /// Which runs are finished, where files are taken by runs.
    pub runs: Option<Arc<Runs>>,
}

enum Verdict {
    Done(Examined),
    /// The branch holds this content already; only the signature is to be remembered.
    Confirm(Signature, Hashed),
    /// It is gone, and what is to come of that.
    MarkGone(Presence),
}

impl Examiner {
    /// Examines all of `due`, and writes down at once what needs no commit. Blocks for as long as reading takes.
    ///
    /// # Errors
    /// The state cannot be read or written; then nothing was decided.
    pub fn examine(&self, due: &[Due]) -> Result<Vec<Examined>, StateError> {
        let mut confirmed = Vec::new();
        let (mut kept, mut removed) = (Vec::new(), Vec::new());
        let mut examined = Vec::with_capacity(due.len());
        for due in due {
            examined.push(match self.look(due)? {
                Verdict::Done(examined) => examined,
                Verdict::Confirm(signature, hashed) => {
                    let Hashed { digests, racy, .. } = hashed;
                    confirmed.push(Confirmed { path: due.path.clone(), signature, digests, racy });
                    Examined::Nothing
                }
                Verdict::MarkGone(Presence::Waiting) => {
                    removed.push(due.path.clone());
                    Examined::Removed
                }
                Verdict::MarkGone(_) => {
                    kept.push(due.path.clone());
                    Examined::Nothing
                }
            });
        }
        // Names that are gone from a directory which no longer is the folder say nothing of the folder.
        if examined.contains(&Examined::Removed) && !self.root.is_current().unwrap_or(false) {
            removed.clear();
            let voided = examined.iter_mut().filter(|examined| **examined == Examined::Removed);
            voided.for_each(|examined| *examined = Examined::Moving(None));
        }
        if !confirmed.is_empty() {
            self.state.confirm_files(self.folder, &confirmed)?;
        }
        for (paths, presence) in [(kept, Presence::Kept), (removed, Presence::Waiting)] {
            if !paths.is_empty() {
                self.state.mark_gone(self.folder, &paths, presence)?;
            }
        }
        Ok(examined)
    }

    fn look(&self, due: &Due) -> Result<Verdict, StateError> {
        let path = &due.path;
        match self.root.look(path) {
            Ok(EntryKind::File(signature)) => self.look_at_file(due, signature),
            Ok(EntryKind::Dir { .. }) => match self.gone(path)? {
                Verdict::Done(Examined::Nothing) => Ok(Verdict::Done(Examined::Directory)),
                the_file_is_gone => Ok(the_file_is_gone),
            },
            Ok(EntryKind::Symlink | EntryKind::Special)
            | Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => self.gone(path),
            // What is known below a mount is hidden and not gone.
            Ok(EntryKind::Mount) | Err(OpenError::Mounted) => Ok(Verdict::Done(Examined::Nothing)),
            Ok(EntryKind::Unknown) => {
                self.problem(path, ProblemKind::Unreadable, &"it cannot be looked at", None)
            }
            Err(error @ OpenError::Io(_)) => self.unreadable(path, &error, None),
        }
    }

    fn look_at_file(&self, due: &Due, signature: Signature) -> Result<Verdict, StateError> {
        let path = &due.path;
        if self.filter.excludes_file(path) {
            return Ok(Verdict::Done(Examined::Nothing));
        }
        if due.seen != Some(signature) && !due.overdue {
            return Ok(Verdict::Done(Examined::Moving(Some(signature))));
        }
        let row = self.state.file(self.folder, path)?;
        let is_known = |row: &FileRow| {
            row.known.signature == Some(signature) && !row.known.racy && row.known.presence == Presence::Here
        };
        if row.as_ref().is_some_and(is_known) {
            return Ok(Verdict::Done(Examined::Nothing));
        }
        if let Some(runs) = &self.runs
            && runs.holds_back(path, |marker| self.is_pushed(marker))?
        {
            return Ok(Verdict::Done(Examined::HeldBack));
        }
        if let Some(problem) = self.state.problem(self.folder, path)?
            && matches!(problem.kind, ProblemKind::Quarantined | ProblemKind::Refused)
            && problem.signature == Some(signature)
            && self.is_still_refused(&problem, signature, row.as_ref())?
        {
            return Ok(Verdict::Done(Examined::Nothing));
        }
        let place = self.place_of(row.as_ref(), signature)?;
        if let Some(refusal) = self.refusal(place, path)? {
            return self.problem(path, ProblemKind::Refused, &refusal, Some(signature));
        }
        if row.is_none()
            && let Some(other) = self.places.in_the_way(place, path)?
        {
            let reason = format!(
                "the branch holds {other} where it would have to stand, or in place of a directory above; rename one of \
                 the two, or change remote_path"
            );
            return self.problem(path, ProblemKind::Refused, &reason, Some(signature));
        }
        if let Some(limit) = self.max_file_size.filter(|limit| signature.size > *limit) {
            let reason = format!(
                "it is larger than max_file_size ({}); raise the limit or exclude the file",
                bytesize::ByteSize(limit)
            );
            return self.problem(path, ProblemKind::Refused, &reason, Some(signature));
        }
        self.take(due, signature, row.as_ref(), place)
    }

    /// Whether the branch holds a file that is still here.
    fn is_pushed(&self, path: &LocalPath) -> Result<bool, StateError> {
        let row = self.state.file(self.folder, path)?;
        Ok(row.is_some_and(|row| row.is_here()))
    }

    /// Whether the config still says what made a problem; a limit that was raised releases its files.
    fn is_still_refused(
        &self,
        problem: &ProblemRow,
        signature: Signature,
        row: Option<&FileRow>,
    ) -> Result<bool, StateError> {
        if problem.kind == ProblemKind::Quarantined
            || self.max_file_size.is_some_and(|limit| signature.size > limit)
        {
            return Ok(true);
        }
        let place = self.place_of(row, signature)?;
        Ok(self.refusal(place, &problem.path)?.is_some()
            || (row.is_none() && self.places.in_the_way(place, &problem.path)?.is_some()))
    }

    /// Why a file cannot stand at its place under its own name.
    fn refusal(&self, place: PlaceKey, path: &LocalPath) -> Result<Option<Refusal>, StateError> {
        match self.places.path_of(place, path) {
            Ok(_) => Ok(None),
            Err(PlaceError::Refused(refusal)) => Ok(Some(refusal)),
            Err(PlaceError::State(error)) => Err(error),
        }
    }

    /// Where a file stands on the branch, or is to.
    fn place_of(&self, row: Option<&FileRow>, signature: Signature) -> Result<PlaceKey, StateError> {
        row.map_or_else(|| self.places.for_new(signature.mtime_ns), |row| Ok(row.place))
    }

    fn take(
        &self,
        due: &Due,
        seen: Signature,
        row: Option<&FileRow>,
        place: PlaceKey,
    ) -> Result<Verdict, StateError> {
        let path = &due.path;
        let mut opened = match self.root.open_file(path) {
            Ok(opened) => opened,
            Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => return self.gone(path),
            Err(error) => return self.unreadable(path, &error, Some(seen)),
        };
        let signature = opened.signature;
        let moving = Ok(Verdict::Done(Examined::Moving(Some(signature))));
        if !due.overdue && (signature != seen || self.writers.has_writer(&opened)) {
            return moving;
        }
        let read = match self.known_hash(due, signature)? {
            Some(known) => Ok(known),
            None if due.overdue => hash_snapshot(&mut opened),
            None => hash_file(&mut opened, wanted(signature.size, row)),
        };
        let hashed = match read {
            Ok(hashed) => hashed,
            Err(ReadError::Changed) => return moving,
            Err(ReadError::Open(error)) => return self.unreadable(path, &error, Some(seen)),
        };
        // A writer that came while the file was read may just have begun.
        let has_writer = self.writers.has_writer(&opened);
        if has_writer && !due.overdue {
            return moving;
        }
        // What a writer changes through a mapping may leave no trace in the signature.
        let racy = hashed.racy || has_writer;
        if row.is_some_and(|row| row.is_proved() && row.holds(signature.size, &hashed.digests)) {
            return Ok(Verdict::Confirm(signature, Hashed { racy, ..hashed }));
        }
        let kind = ChangeKind::Put { signature, digests: hashed.digests, racy };
        Ok(Verdict::Done(Examined::Finished(Change { path: path.clone(), place, kind })))
    }

    /// The hashes of a large file that an earlier life had read and was sending, where it is untouched since: what the server
    /// has of it lasts for a minute, and reading it may take longer.
    fn known_hash(&self, due: &Due, signature: Signature) -> Result<Option<Hashed>, StateError> {
        if due.overdue || signature.size < RESUMED_MIN {
            return Ok(None);
        }
        let upload = self.state.upload(self.folder, &due.path)?;
        let same = upload.filter(|upload| upload.signature == signature && !upload.racy);
        Ok(same.map(|upload| Hashed { signature, digests: upload.digests, racy: false }))
    }

    fn gone(&self, path: &LocalPath) -> Result<Verdict, StateError> {
        self.state.clear_problem(self.folder, path)?;
        if let Some(runs) = self.runs.as_ref().filter(|runs| runs.is_marker(path)) {
            runs.begin(&path.parent().unwrap_or_default());
        }
        let row = self.state.file(self.folder, path)?;
        // A file that was only listed on the branch was never here.
        let known = row.and_then(|row| Some((row.known.presence, row.place, row.known.signature?)));
        Ok(match known {
            Some((Presence::Here, _, signature)) if self.mirror => {
                // By us, when the folder was none that mirrors.
                let is_taken_off = self.state.was_taken_off(self.folder, path, &signature)?;
                Verdict::MarkGone(if is_taken_off { Presence::Kept } else { Presence::Waiting })
            }
            Some((Presence::Here, ..)) => Verdict::MarkGone(Presence::Kept),
            Some((Presence::Released, place, _)) if self.mirror => {
                let change = Change { path: path.clone(), place, kind: ChangeKind::Remove };
                Verdict::Done(Examined::Finished(change))
            }
            _ => Verdict::Done(Examined::Nothing),
        })
    }

    fn problem(
        &self,
        path: &LocalPath,
        kind: ProblemKind,
        reason: &dyn std::fmt::Display,
        signature: Option<Signature>,
    ) -> Result<Verdict, StateError> {
        let row = ProblemRow {
            path: path.clone(),
            kind,
            reason: reason.to_string(),
            since_ms: jiff::Timestamp::now().as_millisecond(),
            signature,
        };
        let is_new = self.state.set_problem(self.folder, &row)?;
        Ok(Verdict::Done(Examined::Problem { row, is_new, passes: false }))
    }

    /// What the kernel said no to. Whoever forbids it will say when it is allowed; anything else may pass by itself.
    fn unreadable(
        &self,
        path: &LocalPath,
        error: &OpenError,
        signature: Option<Signature>,
    ) -> Result<Verdict, StateError> {
        let refused = match error {
            // A writer has leased it: a file server whose client is about to write, for one.
            OpenError::Io(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Verdict::Done(Examined::Moving(signature)));
            }
            OpenError::Io(error) => error.kind() == ErrorKind::PermissionDenied,
            _ => true,
        };
        let verdict = self.problem(path, ProblemKind::Unreadable, error, signature)?;
        Ok(match verdict {
            Verdict::Done(Examined::Problem { row, is_new, .. }) => {
                Verdict::Done(Examined::Problem { row, is_new, passes: !refused })
            }
            other => other,
        })
    }
}

/// A large file that cannot be what the branch holds at its path is on its way all the sooner for Oxen's hash alone; the
/// other is computed while it is sent.
fn wanted(size: u64, row: Option<&FileRow>) -> Wanted {
    let may_be_known = row.is_some_and(|row| row.size == size);
    if size < RESUMED_MIN || may_be_known { Wanted::Both } else { Wanted::Oxens }
}

#[cfg(test)]
mod tests;
