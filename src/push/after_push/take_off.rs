//! Files are taken off, in an order in which no end of the process and nobody else's write loses any:
//!
//! 1. It is written down which files are about to go; from then on their rows say that the branch keeps them. Whatever
//!    comes of it, and whatever the config says by the next start, their absence is no removal.
//! 2. The file is opened, and is what it was when it was read. It gets a name that nobody else knows, without replacing
//!    anything. What stands there now is held against what was opened: a file that another program had put in its place
//!    goes back, and so does one that a program has open for writing by now.
//! 3. It is deleted or moved, and that is written down.
//!
//! After an end in between, the next start finds the file under the one name or the other, puts it back, and has it looked
//! at; or it finds it under neither, and it was taken off.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::pusher::{Failure, Pusher};
use super::super::verdict::Verdict;
use super::super::worker::now_ms;
use super::find::{Folders, Found};
use super::{AfterPush, Pass, is_wanted};
use crate::config::TakeOff;
use crate::content::{
    Apart, OpenError, OpenFile, PutBack, RootDir, Signature, apart_name, is_absent, is_taken,
};
use crate::fault_point::{Point, passed};
use crate::folder::Hint;
use crate::folder::writers::Writers;
use crate::path::{LocalPath, printable};
use crate::plan::retire::Stays;
use crate::state::{FolderKey, Leaving, State, StateError};

/// What became of some files.
#[derive(Debug, Default)]
struct Outcome {
    gone: Vec<LocalPath>,
    bytes: u64,
    /// They stand where they stood.
    stayed: Vec<LocalPath>,
    stays: Vec<(Stays, LocalPath)>,
    /// They had another name for a moment, and must be looked at again.
    moved: Vec<LocalPath>,
    /// They are not under their own name, and why.
    left: Vec<(LocalPath, String)>,
    /// It is not known where they are.
    unknown: Vec<LocalPath>,
    /// Why none of the others can go either.
    stopped: Option<String>,
}

/// What keeps a file from going.
enum Hindrance {
    Stays(Stays),
    /// Nor can any other go.
    Stop(String),
}

impl From<std::io::Error> for Hindrance {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::Stays(Stays::Unwritable),
            ErrorKind::NotFound => Self::Stays(Stays::Changed),
            ErrorKind::InvalidInput => {
                Self::Stop("the folder's filesystem cannot give a file another name without replacing one".to_owned())
            }
            ErrorKind::CrossesDevices => Self::Stop(
                "move_to lies on another mount than the folder; with systemd, name a directory that holds both in \
                 ReadWritePaths"
                    .to_owned(),
            ),
            _ => Self::Stop(error.to_string()),
        }
    }
}

impl From<OpenError> for Hindrance {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Gone | OpenError::NotAFile | OpenError::Symlink => Self::Stays(Stays::Changed),
            OpenError::Mounted => Self::Stays(Stays::Unreadable),
            // The name that nobody else knows is taken: what an earlier life left there could not be put back.
            OpenError::Io(error) if error.kind() == ErrorKind::AlreadyExists => {
                Self::Stays(Stays::Unreadable)
            }
            OpenError::Io(error) => error.into(),
        }
    }
}

impl AfterPush {
    /// Takes off what was found, or settles what an earlier life left. Nothing is begun while this is under way.
    pub(in super::super) async fn take_off(&mut self, pusher: &Pusher, found: Result<Found, Failure>) {
        let done = match found {
            Ok(found) if self.is_open => self.settle(pusher, Arc::clone(&found.folders.root)).await,
            Ok(found) => self.go_on(pusher, found).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = done {
            self.fail(pusher, &failure);
        }
    }

    async fn go_on(&mut self, pusher: &Pusher, found: Found) -> Result<(), Failure> {
        let Found { folders, going, stays, next, looking } = found;
        self.pass.looking += looking;
        for (why, path) in stays {
            if why == Stays::Altered {
                // The state says by now that it is to be read again.
                pusher.inbox.add(Hint::Path(path.clone()));
            }
            self.pass.stays(why, path);
        }
        if !going.is_empty() {
            // Should the folder not answer, what is under way there ends before the next file.
            let stop = CancellationToken::new();
            let _stops = stop.clone().drop_guard();
            let folder = pusher.options.folder;
            let moved_to = match &pusher.options.after_push.action {
                TakeOff::Move(to) => Some(printable(to)),
                _ => None,
            };
            self.is_open = true;
            let outcome = pusher.in_folder(move |state| {
                let leaving = state.begin_taking_off(folder, going, moved_to.as_deref(), now_ms())?;
                let outcome = Taker { folders, writers: Writers::default(), stop }.take(leaving);
                state.end_taking_off(folder, &outcome.gone, &outcome.stayed)?;
                Ok(outcome)
            });
            let outcome = outcome.await?;
            self.is_open = !outcome.unknown.is_empty();
            self.sum_up(pusher, outcome)?;
        }
        self.pass.after = next;
        if self.pass.after.is_some() {
            self.next = Some(tokio::time::Instant::now());
        } else {
            self.end_pass(pusher);
        }
        Ok(())
    }

    fn sum_up(&mut self, pusher: &Pusher, outcome: Outcome) -> Result<(), Failure> {
        let files = outcome.gone.len() as u64;
        self.pass.files += files;
        self.pass.bytes += outcome.bytes;
        if files > 0 {
            pusher.status.send_modify(|status| {
                status.taken_off += files;
                status.taken_off_bytes += outcome.bytes;
            });
        }
        outcome.stays.into_iter().for_each(|(why, path)| self.pass.stays(why, path));
        tell_left(pusher, &outcome.left);
        outcome.moved.into_iter().for_each(|path| pusher.inbox.add(Hint::Path(path)));
        match outcome.stopped {
            None => Ok(()),
            Some(reason) => Err(Failure::of_surroundings(Verdict::Again, reason)),
        }
    }

    /// Puts back what an earlier life, or a step that did not come to its end, left half done.
    async fn settle(&mut self, pusher: &Pusher, root: Arc<RootDir>) -> Result<(), Failure> {
        let folder = pusher.options.folder;
        let settled = pusher.in_folder(move |state| settle(state, folder, &root)).await?;
        let Outcome { left, moved, unknown, .. } = settled;
        if !moved.is_empty() {
            let path = printable(&pusher.options.path);
            tracing::info!(folder = %path, files = moved.len(), "what was half taken off is in its place again");
        }
        tell_left(pusher, &left);
        moved.into_iter().for_each(|path| pusher.inbox.add(Hint::Path(path)));
        if !unknown.is_empty() {
            let reason = format!("{} files that were half taken off cannot be looked at", unknown.len());
            return Err(Failure::of_surroundings(Verdict::Again, reason));
        }
        self.is_open = false;
        self.pass = Pass::default();
        self.next = is_wanted(pusher).then(tokio::time::Instant::now);
        Ok(())
    }
}

fn tell_left(pusher: &Pusher, left: &[(LocalPath, String)]) {
    for (path, why) in left {
        let apart = apart_of(path).under(&pusher.options.path);
        tracing::error!(
            folder = %printable(&pusher.options.path), file = %path, stands_at = %printable(apart),
            "a file that was to be taken off could not be given its own name back: {why}; nothing of it is lost, rename it \
             yourself"
        );
    }
}

fn apart_of(path: &LocalPath) -> LocalPath {
    path.parent().unwrap_or_default().join(&apart_name(path.name()))
}

/// Settles all of which it is open what became of them.
fn settle(state: &State, folder: FolderKey, root: &RootDir) -> Result<Outcome, StateError> {
    let mut all = Outcome::default();
    let mut after = None;
    loop {
        let half = state.half_taken_off(folder, after.as_ref())?;
        let Some(last) = half.last() else { return Ok(all) };
        after = Some(last.clone());
        let (mut gone, mut stayed) = (Vec::new(), Vec::new());
        for path in half {
            match root.put_back(&path) {
                Ok(PutBack::Done) => stayed.push(path),
                Ok(PutBack::Gone) => match root.look(&path) {
                    Ok(_) => stayed.push(path),
                    looked if is_absent(&looked) => gone.push(path),
                    Err(_) => all.unknown.push(path),
                },
                Ok(PutBack::Taken) => all.left.push((path, TAKEN.to_owned())),
                Err(_) => all.unknown.push(path),
            }
        }
        state.end_taking_off(folder, &gone, &stayed)?;
        all.moved.extend(stayed);
    }
}

const TAKEN: &str = "another file has it by now";

/// Takes files off one by one.
struct Taker {
    folders: Folders,
    writers: Writers,
    stop: CancellationToken,
}

impl Taker {
    fn take(&self, leaving: Vec<Leaving>) -> Outcome {
        let mut outcome = Outcome::default();
        for file in leaving {
            if self.stop.is_cancelled() || outcome.stopped.is_some() {
                outcome.stayed.push(file.path);
                continue;
            }
            self.take_one(file, &mut outcome);
        }
        outcome
    }

    fn take_one(&self, file: Leaving, outcome: &mut Outcome) {
        let Leaving { path, signature } = file;
        let (hindrance, was_apart) = match self.set_apart(&path, &signature) {
            Err(hindrance) => (hindrance, false),
            Ok((opened, to, apart)) => {
                passed(Point::SetApart);
                match self.away(&opened, to.as_ref(), &apart, &signature) {
                    Ok(()) => {
                        passed(Point::TakenOff);
                        outcome.bytes += signature.size;
                        outcome.gone.push(path);
                        return;
                    }
                    Err(hindrance) => match apart.put_back() {
                        Ok(PutBack::Done | PutBack::Gone) => (hindrance, true),
                        Ok(PutBack::Taken) => return outcome.left.push((path, TAKEN.to_owned())),
                        Err(error) => {
                            outcome.left.push((path.clone(), error.to_string()));
                            return outcome.unknown.push(path);
                        }
                    },
                }
            }
        };
        match hindrance {
            Hindrance::Stays(why) => outcome.stays.push((why, path.clone())),
            Hindrance::Stop(reason) => outcome.stopped = Some(reason),
        }
        if was_apart {
            outcome.moved.push(path.clone());
        }
        outcome.stayed.push(path);
    }

    /// Gives the file the name that nobody else knows, where it still is what it was. Whatever can be known to be in the way
    /// is found before: each rename makes a file look like another one, which costs a look at all of its bytes.
    fn set_apart(
        &self,
        path: &LocalPath,
        signature: &Signature,
    ) -> Result<(OpenFile, Option<OwnedFd>, Apart<'_>), Hindrance> {
        let Folders { root, to } = &self.folders;
        let opened = root.open_file(path)?;
        if opened.signature != *signature {
            return Err(Hindrance::Stays(Stays::Changed));
        }
        if self.writers.has_writer(&opened) {
            return Err(Hindrance::Stays(Stays::Busy));
        }
        let to = match to {
            None => None,
            Some(to) => {
                Some(to.make_dir(&path.parent().unwrap_or_default()).map_err(|error| match error {
                    OpenError::Io(error) => error.into(),
                    // A file or a link stands in the place of one of the directories.
                    _ => Hindrance::Stays(Stays::Taken),
                })?)
            }
        };
        if let Some(to) = &to
            && is_taken(to, path.name())?
        {
            return Err(Hindrance::Stays(Stays::Taken));
        }
        let apart = root.set_apart(path)?;
        Ok((opened, to, apart))
    }

    /// Deletes or moves a file that nobody can open by its name any more, if it is the one that was meant and nobody has it
    /// open for writing.
    fn away(
        &self,
        opened: &OpenFile,
        to: Option<&OwnedFd>,
        apart: &Apart<'_>,
        signature: &Signature,
    ) -> Result<(), Hindrance> {
        let by_now = apart.is(opened, signature)?.ok_or(Hindrance::Stays(Stays::Changed))?;
        if self.writers.has_writer(opened) {
            return Err(Hindrance::Stays(Stays::Busy));
        }
        // One that opened it before the rename, and has closed it, has left its trace.
        if apart.is(opened, signature)? != Some(by_now) || self.stop.is_cancelled() {
            return Err(Hindrance::Stays(Stays::Changed));
        }
        match to {
            None => Ok(apart.delete()?),
            Some(to) if apart.move_to(to)? => Ok(()),
            Some(_) => Err(Hindrance::Stays(Stays::Taken)),
        }
    }
}
