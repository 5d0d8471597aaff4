//! Which files go next: those that the state says may go, that are here as it says down to the last byte, and that the
//! branch holds. Nothing is changed here, so this may be broken off anywhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::prove::look_up;
use super::super::pusher::{Failure, Pusher};
use super::super::verdict::Verdict;
use super::super::worker::now_ms;
use super::super::{PushOptions, Target};
use super::AfterPush;
use crate::config::TakeOff;
use crate::content::{OpenError, OpenFile, ReadError, RootDir, Wanted, apart_name, hash_file};
use crate::folder::writers::{Leased, NoLease};
use crate::folder::{Filter, remote_filesystem};
use crate::path::{LocalPath, printable};
use crate::plan::retire::{self, Stays};
use crate::state::{FileRow, Leaving, PlaceError, PushedFiles};

/// Bytes read before the worker may push again, but for the file with which they are more.
const READ_MAX: u64 = 1 << 30;
/// How often the state is looked into before the worker may push again.
const LOOKS_MAX: usize = 20;

/// What one step of a pass has found.
#[derive(Debug)]
pub(in super::super) struct Found {
    pub(super) folders: Folders,
    pub(super) going: Vec<Leaving>,
    pub(super) stays: Vec<(Stays, LocalPath)>,
    /// Where the next step begins; `None` at the end.
    pub(super) next: Option<LocalPath>,
    pub(super) looking: Duration,
}

/// The folder, and where its files go.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    pub(super) root: Arc<RootDir>,
    /// `None` where they are deleted.
    pub(super) to: Option<Arc<RootDir>>,
}

/// Files that are here as they are known.
type Held = Vec<(LocalPath, FileRow)>;

impl AfterPush {
    /// Finds what goes next.
    ///
    /// # Errors
    /// The folder, the state or the branch cannot be looked at.
    pub(in super::super) async fn find(&self, pusher: &Pusher) -> Result<Found, Failure> {
        let root = pusher.open_source().await?.root;
        let to = if self.is_open { None } else { open_target(pusher, &root).await? };
        let folders = Folders { root, to };
        let mut found =
            Found { folders, going: Vec::new(), stays: Vec::new(), next: None, looking: Duration::ZERO };
        if self.is_open {
            return Ok(found);
        }
        not_remote(pusher, &found.folders.root).await?;
        let began = Instant::now();
        let pushed = self.look_up_rows(pusher).await?;
        found.looking = began.elapsed();
        found.next = pushed.next.clone();
        if pushed.files.is_empty() {
            return Ok(found);
        }
        let held = read(pusher, &mut found, pushed).await?;
        ask(pusher, &mut found, held).await?;
        Ok(found)
    }

    async fn look_up_rows(&self, pusher: &Pusher) -> Result<PushedFiles, Failure> {
        let (folder, min_age, now_ms) = (pusher.options.folder, pusher.options.after_push.min_age, now_ms());
        let mut after = self.pass.after.clone();
        let mut pushed = PushedFiles::default();
        for _ in 0..LOOKS_MAX {
            let looked = pusher.blocking(move |state| {
                state.pushed_files(folder, after.as_ref(), |row| retire::may_go(row, min_age, now_ms))
            });
            pushed = looked.await?;
            after = pushed.next.clone();
            if !pushed.files.is_empty() || pushed.next.is_none() {
                break;
            }
        }
        Ok(pushed)
    }
}

fn unusable(reason: String) -> Failure {
    Failure::of_surroundings(Verdict::Again, reason)
}

/// Whether the kernel knows of whoever may write to the folder's files.
async fn not_remote(pusher: &Pusher, root: &Arc<RootDir>) -> Result<(), Failure> {
    let root = Arc::clone(root);
    let magic = pusher.in_folder(move |_| Ok(root.filesystem_magic())).await?;
    match magic.map(remote_filesystem) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(unusable(retire::remote(name))),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Opens the directory that files are moved to, where they are.
async fn open_target(pusher: &Pusher, root: &Arc<RootDir>) -> Result<Option<Arc<RootDir>>, Failure> {
    let TakeOff::Move(to) = pusher.options.after_push.action.clone() else { return Ok(None) };
    let (root, calls) = (Arc::clone(root), Arc::clone(&pusher.options.calls));
    let shown = printable(&to);
    let opened = pusher.in_folder(move |_| {
        let to = match RootDir::open_counted(&to, &calls) {
            Ok(to) => to,
            Err(error) => return Ok(Err(format!("it cannot be opened: {}", OpenError::from(error)))),
        };
        if to.id().device != root.id().device {
            return Ok(Err("it lies on another filesystem than the folder".to_owned()));
        }
        Ok(match (root.real_path(), to.real_path()) {
            (Ok(here), Ok(there)) if here.starts_with(&there) || there.starts_with(&here) => {
                Err("it and the folder lie one inside the other".to_owned())
            }
            (Ok(_), Ok(_)) => Ok(to),
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
        })
    });
    let opened = opened.await?;
    opened.map(|to| Some(Arc::new(to))).map_err(|reason| unusable(format!("move_to, {shown}: {reason}")))
}

/// Reads the files, up to some amount, and returns those that are as they are known.
async fn read(pusher: &Pusher, found: &mut Found, pushed: PushedFiles) -> Result<Held, Failure> {
    let (folders, options) = (found.folders.clone(), pusher.options.clone());
    let reading = pusher.in_folder(move |state| {
        let (exclude, include) = (&options.exclude, &options.include);
        let filter = match Filter::of_folder(exclude, include, &folders.root) {
            Ok(filter) => filter,
            Err(error) => return Ok(Err(format!("the folder's .oxenignore cannot be used: {error}"))),
        };
        let (mut held, mut stays, mut bytes) = (Held::new(), Vec::new(), 0);
        let mut may_change = HashMap::new();
        let (mut next, mut last) = (pushed.next, None);
        for (path, row) in pushed.files {
            if bytes >= READ_MAX {
                next = last;
                break;
            }
            last = Some(path.clone());
            let dir = path.parent().unwrap_or_default();
            let is_ours =
                *may_change.entry(dir).or_insert_with_key(|dir| folders.root.may_change(dir).is_ok());
            bytes += row.size;
            let looked = match is_ours {
                // Without it, what it leaves out would be pushed.
                _ if filter.excludes_file(&path) || Filter::is_ignore_file(&path) => Err(Stays::LeftOut),
                _ if apart_name(path.name()).is_none() => Err(Stays::LongName),
                false => Err(Stays::Unwritable),
                true => look(&folders, &path, &row),
            };
            match looked {
                Ok(()) => held.push((path, row)),
                Err(why) => {
                    if why == Stays::Altered {
                        state.distrust(options.folder, &path)?;
                    }
                    stays.push((why, path));
                }
            }
        }
        Ok(Ok((held, stays, next)))
    });
    let (held, stays, next) = reading.await?.map_err(unusable)?;
    (found.stays, found.next) = (stays, next);
    Ok(held)
}

fn look(folders: &Folders, path: &LocalPath, row: &FileRow) -> Result<(), Stays> {
    let why = |error: &OpenError| match error {
        OpenError::Gone | OpenError::NotAFile | OpenError::Symlink => Stays::Changed,
        OpenError::Mounted | OpenError::Io(_) => Stays::Unreadable,
    };
    if let Some(to) = &folders.to {
        match to.look(path) {
            Err(OpenError::Gone) => {}
            Ok(_) => return Err(Stays::Taken),
            Err(_) => return Err(Stays::Unreadable),
        }
    }
    let mut opened = folders.root.open_file(path).map_err(|error| why(&error))?;
    // Before all of it is read, for nothing.
    if row.known.signature != Some(opened.signature) {
        return Err(Stays::Changed);
    }
    // Not held: whoever wants to write waits for as long as it is.
    opened = leased(opened)?.release();
    let read = hash_file(&mut opened, Wanted::Both).map_err(|error| match error {
        ReadError::Changed => Stays::Changed,
        ReadError::Open(error) => why(&error),
    })?;
    retire::holds_here(row, &opened.signature, &read)?;
    leased(opened).map(drop)
}

/// Makes sure that nobody has a file open for writing.
pub(super) fn leased(opened: OpenFile) -> Result<Leased, Stays> {
    Leased::of(opened).map_err(|error| match error {
        NoLease::HasWriter => Stays::Busy,
        NoLease::Unknown => Stays::Unsure,
    })
}

/// Asks the branch, as it is now, whether it holds the files.
async fn ask(pusher: &Pusher, found: &mut Found, held: Held) -> Result<(), Failure> {
    if held.is_empty() {
        return Ok(());
    }
    let PushOptions { places, concurrency, .. } = &pusher.options;
    let (mut asked, mut paths) = (Vec::new(), Vec::new());
    for (path, row) in held {
        match places.path_of(row.place, &path) {
            Ok(there) => {
                paths.push(there);
                asked.push((path, row));
            }
            Err(PlaceError::Refused(_)) => found.stays.push((Stays::NotOnBranch, path)),
            Err(PlaceError::State(error)) => return Err(error.into()),
        }
    }
    let head = pusher.target.head().await?;
    let Target { client, repo, .. } = &pusher.target;
    let mut entries = vec![None; asked.len()];
    for (index, entry) in look_up(client, repo, &head, &paths, *concurrency).await? {
        if let Some(slot) = entries.get_mut(index) {
            *slot = entry;
        }
    }
    for ((path, row), entry) in asked.into_iter().zip(entries) {
        match (retire::holds_there(&row, entry.as_ref()), row.known.signature) {
            (Ok(()), Some(signature)) => found.going.push(Leaving { path, signature }),
            (Ok(()), None) => {}
            (Err(why), _) => found.stays.push((why, path)),
        }
    }
    Ok(())
}
