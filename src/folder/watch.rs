use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{EventKindMask, ModifyKind, RenameMode};
use notify::{
    Config, ErrorKind, Event, EventKind, PathOp, RecommendedWatcher, RecursiveMode, WatchPathConfig, Watcher,
};
use tokio::sync::Notify;

use super::{Filter, Hint, Hints};
use crate::content::{Calls, Mounts, OpenError, RootDir};
use crate::path::{LocalPath, printable};

/// Where the watcher leaves its hints. The watcher's thread only notes them down; it never waits.
#[derive(Debug, Default)]
pub struct Inbox {
    hints: Mutex<Hints>,
    arrived: Notify,
    strays: Mutex<BTreeSet<LocalPath>>,
    strayed: Notify,
}

/// Files beyond which the others are left to a later scan.
const STRAYS_MAX: usize = 10_000;

impl Inbox {
    /// Adds a hint and wakes who waits for one.
    pub fn add(&self, hint: Hint) {
        self.lock().add(hint);
        self.arrived.notify_one();
    }

    /// Takes all hints.
    pub fn take(&self) -> Vec<Hint> {
        self.lock().take()
    }

    /// How many hints wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no hint waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes a file, by its own name, that has the one of a file which is being taken off.
    pub fn add_stray(&self, path: LocalPath) {
        let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        if strays.len() < STRAYS_MAX {
            strays.insert(path);
        }
        self.strayed.notify_one();
    }

    /// Takes all of them.
    pub fn take_strays(&self) -> BTreeSet<LocalPath> {
        std::mem::take(&mut *self.strays.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when one was noted since this last returned.
    pub async fn stray(&self) {
        self.strayed.notified().await;
    }

    /// Returns when there is a hint.
    pub async fn arrival(&self) {
        while self.is_empty() {
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of a folder the kernel watches for us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Coverage {
    /// Every directory.
    #[default]
    Full,
    /// Not all directories, mostly since `fs.inotify.max_user_watches` is used up.
    Partial {
        /// Directories that are watched.
        watched: usize,
        /// Directories that are not, as far as they are known.
        missing: usize,
        /// Why the last of them is not, and what to do.
        reason: String,
    },
    /// Nothing: no inotify instance is to be had (`fs.inotify.max_user_instances`), or the filesystem tells of no
    /// remote changes.
    None {
        /// Which of them, and what to do.
        reason: String,
    },
}

/// The watches on a folder's directories: one for each, none of them recursive, none through a symlink.
pub struct TreeWatch {
    watcher: Mutex<RecommendedWatcher>,
    root: PathBuf,
    calls: Arc<Calls>,
    inbox: Arc<Inbox>,
    covered: Mutex<Covered>,
}

/// Which directories are watched, and which ought to be.
#[derive(Debug, Default)]
struct Covered {
    watched: BTreeSet<LocalPath>,
    missing: BTreeSet<LocalPath>,
    /// Why the last one is missing.
    reason: String,
    /// Whether watches may have another directory's name, since they could not begin anew.
    in_doubt: bool,
}

/// Watches asked for at once.
const BATCH: usize = 512;

impl TreeWatch {
    /// A watcher for the folder `root` that leaves its hints in `inbox`. It watches nothing yet.
    ///
    /// # Errors
    /// No inotify instance is to be had.
    pub fn new(root: &RootDir, inbox: Arc<Inbox>) -> notify::Result<Self> {
        Ok(Self {
            watcher: Mutex::new(watcher(root.path(), &inbox)?),
            root: root.path().to_path_buf(),
            calls: Arc::clone(root.calls()),
            inbox,
            covered: Mutex::default(),
        })
    }

    /// Begins anew without watches: after the kernel has lost events, nobody knows which directories are those that are
    /// watched under their names.
    pub fn reset(&self) {
        let mut covered = lock(&self.covered);
        match watcher(&self.root, &self.inbox) {
            Ok(fresh) => {
                *lock(&self.watcher) = fresh;
                covered.watched.clear();
                covered.missing.clear();
                covered.in_doubt = false;
            }
            // The old one is better than none; the rescans make good what it does not see.
            Err(error) => {
                covered.reason = format!("the kernel has lost events and gives no new watcher: {error}");
                covered.in_doubt = true;
            }
        }
    }

    /// Whether the watches ought to begin anew, and could not.
    pub fn is_in_doubt(&self) -> bool {
        lock(&self.covered).in_doubt
    }

    /// Watches `start` and every directory below it that `filter` lets through, and stops watching what was watched
    /// below it and is gone. What appears while this runs either is watched or is hinted at by its parent's watch.
    pub fn cover(&self, start: &LocalPath, root: &RootDir, filter: &Filter) {
        let mounts = Mounts::below(root);
        let mut found = BTreeSet::new();
        let mut batch = Vec::with_capacity(BATCH);
        let mut stack = vec![start.clone()];
        while let Some(dir) = stack.pop() {
            let below = match root.dirs_in(&dir, &mounts) {
                Ok(below) => below,
                // It may be read again, and the watch tells when its rights change.
                Err(OpenError::Io(_)) => Vec::new(),
                Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink | OpenError::Mounted) => {
                    continue;
                }
            };
            stack.extend(below.into_iter().filter(|path| !filter.excludes_dir(path)));
            found.insert(dir.clone());
            batch.push(dir);
            if batch.len() == BATCH {
                self.watch(std::mem::take(&mut batch));
            }
        }
        self.watch(batch);
        let stale: Vec<_> = {
            let covered = lock(&self.covered);
            covered.at_and_below(start).filter(|path| !found.contains(path)).collect()
        };
        self.unwatch(&stale);
    }

    /// Watches one directory that is not watched yet.
    pub fn cover_one(&self, dir: &LocalPath) {
        if !lock(&self.covered).watched.contains(dir) {
            self.watch(vec![dir.clone()]);
        }
    }

    /// Stops watching `start` and everything below it.
    pub fn uncover(&self, start: &LocalPath) {
        let stale: Vec<_> = lock(&self.covered).at_and_below(start).collect();
        self.unwatch(&stale);
    }

    /// How many directories are watched.
    pub fn watched(&self) -> usize {
        lock(&self.covered).watched.len()
    }

    /// How much of the folder is covered.
    pub fn coverage(&self) -> Coverage {
        let covered = lock(&self.covered);
        if covered.missing.is_empty() && !covered.in_doubt {
            return Coverage::Full;
        }
        let (watched, missing) = (covered.watched.len(), covered.missing.len());
        let (watched, missing) = if covered.in_doubt { (0, watched + missing) } else { (watched, missing) };
        Coverage::Partial { watched, missing, reason: covered.reason.clone() }
    }

    fn watch(&self, dirs: Vec<LocalPath>) {
        let config = |path: &LocalPath| {
            // A link in a directory's place is not followed; the folder itself may be one.
            WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(path.is_root())
        };
        let mut operations: Vec<_> =
            dirs.iter().map(|path| PathOp::Watch(path.under(&self.root), config(path))).collect();
        let mut gone = BTreeSet::new();
        let mut missing = BTreeSet::new();
        let mut reason = None;
        let call = self.calls.begin();
        while !operations.is_empty() {
            call.moved();
            let Err(error) = lock(&self.watcher).update_paths(std::mem::take(&mut operations)) else { break };
            let failed = error.origin.as_ref().and_then(|at| LocalPath::below(&self.root, at.as_path()));
            let rest = error.remaining.iter().filter_map(|op| LocalPath::below(&self.root, op.as_path()));
            match (why(&error.source), failed) {
                // Gone already, or not readable: the scan tells which, for this entry alone.
                (None, Some(path)) => {
                    gone.insert(path);
                }
                (Some(Why::ThisOne(text)), Some(path)) => {
                    missing.insert(path);
                    reason = Some(text);
                }
                (Some(Why::All(text) | Why::ThisOne(text)), failed) => {
                    missing.extend(failed.into_iter().chain(rest));
                    reason = Some(text);
                    break;
                }
                (None, None) => {
                    missing.extend(rest);
                    reason =
                        Some("the kernel's watcher has ended; a new one begins at the next scan".to_owned());
                    break;
                }
            }
            operations = error.remaining;
        }
        let mut covered = lock(&self.covered);
        for path in dirs {
            if missing.contains(&path) {
                covered.watched.remove(&path);
                covered.missing.insert(path);
            } else {
                covered.missing.remove(&path);
                if !gone.contains(&path) {
                    covered.watched.insert(path);
                }
            }
        }
        if let Some(reason) = reason {
            covered.reason = reason;
        }
    }

    fn unwatch(&self, dirs: &[LocalPath]) {
        for path in dirs {
            // Mostly the kernel has forgotten it already.
            let _ = lock(&self.watcher).unwatch(&path.under(&self.root));
        }
        let mut covered = lock(&self.covered);
        for path in dirs {
            covered.watched.remove(path);
            covered.missing.remove(path);
        }
    }
}

impl Covered {
    /// What is watched, or ought to be, at `start` and below.
    fn at_and_below(&self, start: &LocalPath) -> impl Iterator<Item = LocalPath> {
        below(&self.watched, start)
            .chain(below(&self.missing, start))
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Why a directory is not watched although it is there.
enum Why {
    /// For a reason of its own.
    ThisOne(String),
    /// For one that holds for all that follow.
    All(String),
}

/// `None` where the directory is gone or may not be read.
fn why(error: &notify::Error) -> Option<Why> {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Some(Why::All(raise_limit())),
        ErrorKind::PathNotFound | ErrorKind::WatchNotFound => None,
        ErrorKind::Io(error) => match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::PermissionDenied => None,
            _ => Some(Why::ThisOne(error.to_string())),
        },
        _ => Some(Why::ThisOne(error.to_string())),
    }
}

/// That the limit of watches is reached, and the command that raises it.
fn raise_limit() -> String {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";
    let limit = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let wanted = limit.unwrap_or_default().saturating_mul(4).max(1_048_576);
    format!(
        "the kernel allows no more watches; raise the limit with: sysctl fs.inotify.max_user_watches={wanted}"
    )
}

fn watcher(root: &Path, inbox: &Arc<Inbox>) -> notify::Result<RecommendedWatcher> {
    let kinds = EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_DATA
        | EventKindMask::MODIFY_META
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE;
    let config = Config::default().with_follow_symlinks(false).with_event_kinds(kinds);
    let (at, inbox) = (root.to_path_buf(), Arc::clone(inbox));
    let handler = move |event: notify::Result<Event>| {
        for hint in hints_of(&at, event) {
            inbox.add(hint);
        }
    };
    RecommendedWatcher::new(handler, config)
}

impl std::fmt::Debug for TreeWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeWatch({}, {} directories)", printable(&self.root), self.watched())
    }
}

/// What of `paths` is `start` or lies below it; its order keeps a directory's content together.
fn below<'a>(paths: &'a BTreeSet<LocalPath>, start: &'a LocalPath) -> impl Iterator<Item = &'a LocalPath> {
    paths.range(start.clone()..).take_while(|path| path.starts_with(start))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an event says of the folder at `root`.
fn hints_of(root: &Path, event: notify::Result<Event>) -> Vec<Hint> {
    let everything = || vec![Hint::Tree(LocalPath::root())];
    let event = match event {
        // The kernel's queue ran over: anything may have happened.
        Ok(event) if event.need_rescan() => return everything(),
        Ok(event) => event,
        Err(_) => return everything(),
    };
    match event.kind {
        // Both halves were told one by one.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Vec::new(),
        _ => event
            .paths
            .iter()
            .map(|path| LocalPath::below(root, path).map_or(Hint::Tree(LocalPath::root()), Hint::Path))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn no_filter() -> Filter {
        Filter::new([], [], "").unwrap()
    }

    fn root(path: &Path) -> RootDir {
        RootDir::open(path).unwrap()
    }

    /// Collects hints until `wanted` is among them.
    async fn hinted(inbox: &Inbox, wanted: &Hint) {
        let all = async {
            loop {
                inbox.arrival().await;
                if inbox.take().contains(wanted) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("the hint comes");
    }

    #[tokio::test]
    async fn what_happens_in_a_covered_directory_is_hinted_at() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let inbox = Arc::new(Inbox::default());
        let watch = TreeWatch::new(&root(dir.path()), Arc::clone(&inbox)).unwrap();
        watch.cover(&LocalPath::root(), &root(dir.path()), &no_filter());
        assert_eq!((watch.watched(), watch.coverage()), (3, Coverage::Full));

        fs::write(dir.path().join("a/b/f"), "x").unwrap();
        hinted(&inbox, &Hint::Path(local("a/b/f"))).await;
        fs::rename(dir.path().join("a/b"), dir.path().join("c")).unwrap();
        hinted(&inbox, &Hint::Path(local("c"))).await;
        watch.cover(&LocalPath::root(), &root(dir.path()), &no_filter());
        fs::write(dir.path().join("c/f"), "y").unwrap();
        hinted(&inbox, &Hint::Path(local("c/f"))).await;
        assert_eq!(watch.watched(), 3, "the old name is watched no more");
    }

    #[tokio::test]
    async fn a_directory_renamed_there_and_back_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let inbox = Arc::new(Inbox::default());
        let watch = TreeWatch::new(&root(dir.path()), Arc::clone(&inbox)).unwrap();
        watch.cover(&LocalPath::root(), &root(dir.path()), &no_filter());
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::rename(dir.path().join("b"), dir.path().join("a")).unwrap();
        hinted(&inbox, &Hint::Path(local("a"))).await;
        watch.cover(&local("a"), &root(dir.path()), &no_filter());
        fs::write(dir.path().join("a/f"), "x").unwrap();
        hinted(&inbox, &Hint::Path(local("a/f"))).await;
    }

    #[tokio::test]
    async fn a_watch_that_begins_anew_sees_what_stands_under_a_name_by_now() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let inbox = Arc::new(Inbox::default());
        let watch = TreeWatch::new(&root(dir.path()), Arc::clone(&inbox)).unwrap();
        watch.cover(&LocalPath::root(), &root(dir.path()), &no_filter());
        // As after lost events: another directory stands under the name, and nobody was told.
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        watch.reset();
        watch.cover(&LocalPath::root(), &root(dir.path()), &no_filter());
        inbox.take();
        fs::write(dir.path().join("a/f"), "x").unwrap();
        hinted(&inbox, &Hint::Path(local("a/f"))).await;
        assert_eq!((watch.watched(), watch.coverage()), (3, Coverage::Full));
    }

    #[test]
    fn excluded_directories_and_links_are_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("cache/deep")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        let watch = TreeWatch::new(&root(dir.path()), Arc::default()).unwrap();
        let filter = Filter::new(["cache/"], [], "").unwrap();
        watch.cover(&LocalPath::root(), &root(dir.path()), &filter);
        assert_eq!(watch.watched(), 1);
    }

    #[test]
    fn an_overflow_of_the_kernels_queue_hints_at_everything() {
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(hints_of(Path::new("/data"), Ok(overflow)), [Hint::Tree(LocalPath::root())]);
        let broken = notify::Error::generic("read failed");
        assert_eq!(hints_of(Path::new("/data"), Err(broken)), [Hint::Tree(LocalPath::root())]);
    }
}
