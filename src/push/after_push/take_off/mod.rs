//! Files are taken off, in an order in which no end of the process and nobody else's write loses any:
//!
//! 1. It is written down which files are about to go; from then on their rows say that the branch keeps them. Whatever
//!    comes of it, and whatever the config says by the next start, their absence is no removal.
//! 2. The file is opened, and the kernel gives its word that nobody has it open for writing, or mapped so; while that is
//!    held, the file is what it was when it was read. It gets a name that nobody else knows, without replacing anything.
//! 3. Whoever had come to the file by its own name, and had not opened it yet, gets the time to. What stands at the other
//!    name now is held against what was opened. A file that another program had put in its place goes back, and so does one
//!    that a program wants to write to by now, or whose directory was moved elsewhere.
//! 4. It is deleted or moved, and that is written down.
//!
//! After an end in between, the next start finds the file under the one name or the other, puts it back, and has it looked
//! at; or it finds it under neither, and it was taken off. Where nothing is remembered of it any more, the next scan meets
//! the other name, which says what the file was called.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::pusher::{Failure, Pusher};
use super::super::verdict::Verdict;
use super::super::worker::now_ms;
use super::find::{Folders, Found, leased};
use super::{AfterPush, Pass, is_wanted};
use crate::config::TakeOff;
use crate::content::{Apart, EntryKind, OpenError, PutBack, RootDir, apart_name, is_absent, is_taken};
use crate::fault_point::{Point, passed};
use crate::folder::Hint;
use crate::folder::writers::Leased;
use crate::path::{LocalPath, printable};
use crate::plan::retire::Stays;
use crate::state::{FolderKey, Leaving, State, StateError};

/// Files that have the name that nobody else knows at the same time. Each takes some descriptors.
const AT_ONCE: usize = 32;
/// How long they have it at least. An open that had found the file by its own name takes microseconds from there to where
/// the kernel counts it.
const GRACE: Duration = Duration::from_millis(200);

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

impl Outcome {
    /// A file stays where it stands.
    fn hinder(&mut self, path: LocalPath, hindrance: Hindrance) {
        match hindrance {
            Hindrance::Stays(why) => self.stays.push((why, path.clone())),
            Hindrance::Stop(reason) => self.stopped = Some(reason),
        }
        self.stayed.push(path);
    }
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
            if matches!(why, Stays::Altered | Stays::Changed) {
                // Another name of it may have gone, of which no event tells; or the state says that it is to be read again.
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
                let outcome = Taker { folders, stop }.take(&leaving);
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
        self.tell_left(pusher, outcome.left);
        outcome.moved.into_iter().for_each(|path| pusher.inbox.add(Hint::Path(path)));
        match outcome.stopped {
            None => Ok(()),
            Some(reason) => Err(Failure::of_surroundings(Verdict::Again, reason)),
        }
    }

    /// Puts back what an earlier life, or a step that did not come to its end, left half done.
    async fn settle(&mut self, pusher: &Pusher, root: Arc<RootDir>) -> Result<(), Failure> {
        let folder = pusher.options.folder;
        let strays = std::mem::take(&mut self.strays);
        let settled = pusher.in_folder(move |state| settle(state, folder, &root, strays)).await?;
        let Outcome { left, moved, unknown, .. } = settled;
        if !moved.is_empty() {
            let path = printable(&pusher.options.path);
            tracing::info!(folder = %path, files = moved.len(), "what was half taken off is in its place again");
        }
        self.tell_left(pusher, left);
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

    /// One line for each file, however often it is met.
    fn tell_left(&mut self, pusher: &Pusher, left: Vec<(LocalPath, String)>) {
        for (path, why) in left {
            let apart = apart_of(&path).under(&pusher.options.path);
            if self.told_left.insert(path.clone()) {
                tracing::error!(
                    folder = %printable(&pusher.options.path), file = %path, stands_at = %printable(apart),
                    "a file that was to be taken off could not be given its own name back: {why}; nothing of it is lost, \
                     rename it yourself"
                );
            }
        }
    }
}

fn apart_of(path: &LocalPath) -> LocalPath {
    let name = apart_name(path.name()).unwrap_or_default();
    path.parent().unwrap_or_default().join(&name)
}

/// Settles all of which it is open what became of them, and those that a scan has met: nothing is being taken off meanwhile.
fn settle(
    state: &State,
    folder: FolderKey,
    root: &RootDir,
    strays: Vec<LocalPath>,
) -> Result<Outcome, StateError> {
    let mut all = Outcome::default();
    let mut after = None;
    loop {
        let half = state.half_taken_off(folder, after.as_ref())?;
        let Some(last) = half.last() else { break };
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
    for path in strays {
        match root.put_back(&path) {
            Ok(PutBack::Done) => all.moved.push(path),
            Ok(PutBack::Gone) => {}
            Ok(PutBack::Taken) => all.left.push((path, TAKEN.to_owned())),
            // The next scan meets it again.
            Err(error) => all.left.push((path, error.to_string())),
        }
    }
    Ok(all)
}

const TAKEN: &str = "another file has it by now";

/// Takes files off, some at a time.
struct Taker {
    folders: Folders,
    stop: CancellationToken,
}

/// A file that has the name that nobody else knows.
struct Leaver<'a> {
    file: Leaving,
    held: Leased,
    /// Where it is moved; `None` where it is deleted.
    to: Option<OwnedFd>,
    apart: Apart<'a>,
}

impl Taker {
    fn take(&self, leaving: &[Leaving]) -> Outcome {
        let mut outcome = Outcome::default();
        for some in leaving.chunks(AT_ONCE) {
            let mut leavers = Vec::with_capacity(some.len());
            for file in some {
                if self.stop.is_cancelled() || outcome.stopped.is_some() {
                    outcome.stayed.push(file.path.clone());
                    continue;
                }
                match self.set_apart(file) {
                    Ok(leaver) => {
                        passed(Point::SetApart);
                        leavers.push(leaver);
                    }
                    Err(hindrance) => outcome.hinder(file.path.clone(), hindrance),
                }
            }
            if !leavers.is_empty() {
                let grace = self.stop.run_until_cancelled(tokio::time::sleep(GRACE));
                tokio::runtime::Handle::current().block_on(grace);
            }
            leavers.into_iter().for_each(|leaver| self.finish(leaver, &mut outcome));
        }
        outcome
    }

    /// Gives the file the name that nobody else knows, where it still is what it was. Whatever can be known to be in the way
    /// is found before: each rename makes a file look like another one, which costs a look at all of its bytes.
    fn set_apart(&self, file: &Leaving) -> Result<Leaver<'_>, Hindrance> {
        let Folders { root, to } = &self.folders;
        let path = &file.path;
        let held = leased(root.open_file(path)?).map_err(Hindrance::Stays)?;
        // As it is while nobody can write.
        if held.file().look()? != EntryKind::File(file.signature) {
            return Err(Hindrance::Stays(Stays::Changed));
        }
        let to = match to {
            None => None,
            Some(to) => {
                Some(to.make_dir(&path.parent().unwrap_or_default(), root).map_err(|error| match error {
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
        Ok(Leaver { file: file.clone(), held, to, apart })
    }

    /// Takes off a file that nobody can open by its name any more, or gives it its own name back.
    fn finish(&self, leaver: Leaver<'_>, outcome: &mut Outcome) {
        let hindrance = match self.away(&leaver) {
            Ok(()) => {
                passed(Point::TakenOff);
                outcome.bytes += leaver.file.signature.size;
                return outcome.gone.push(leaver.file.path);
            }
            Err(hindrance) => hindrance,
        };
        let Leaver { file: Leaving { path, .. }, apart, .. } = leaver;
        match apart.put_back() {
            Ok(PutBack::Done | PutBack::Gone) => {
                outcome.moved.push(path.clone());
                outcome.hinder(path, hindrance);
            }
            Ok(PutBack::Taken) => outcome.left.push((path, TAKEN.to_owned())),
            Err(error) => {
                outcome.left.push((path.clone(), error.to_string()));
                outcome.unknown.push(path);
            }
        }
    }

    /// Deletes or moves a file, if it is the one that was meant and nobody has come to write to it.
    fn away(&self, Leaver { file, held, to, apart }: &Leaver<'_>) -> Result<(), Hindrance> {
        if !held.holds() {
            return Err(Hindrance::Stays(Stays::Busy));
        }
        if !apart.is(held.file(), &file.signature)? || self.stop.is_cancelled() {
            return Err(Hindrance::Stays(Stays::Changed));
        }
        match to {
            None => Ok(apart.delete()?),
            Some(to) if apart.move_to(to)? => Ok(()),
            Some(_) => Err(Hindrance::Stays(Stays::Taken)),
        }
    }
}

#[cfg(test)]
mod tests;
