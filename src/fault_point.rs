//! Every step that lasts beyond the life of the process, by name, so that a test can end the process right behind it.
//!
//! Nothing of this is in a build without the feature `fault-points`, which only tests turn on. With it, the process kills
//! itself as `kill -9` would when it passes the point that `OXEN_SYNC_KILL_AT` names: `batch journaled`, or
//! `batch journaled:3` for the third time. And the time after which a folder counts as one that does not answer can be made
//! shorter, and the number of changes that begin a batch early smaller.

macro_rules! points {
    ($($(#[$about:meta])* $point:ident => $name:literal),+ $(,)?) => {
        /// A step behind which something lasts: in the state, or on the server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$about])* $point),+
        }

        impl Point {
            /// All of them, in the order in which a first push passes them.
            #[cfg(feature = "fault-points")]
            pub const ALL: &[Self] = &[$(Self::$point),+];

            /// What a test calls it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name),+ }
            }
        }
    };
}

points! {
    /// An unusable database was renamed, and there is none in its place.
    StateSetAside => "state set aside",
    /// A new database has its tables.
    StateMade => "state made",
    /// It is written down which directory the folder is.
    RootNoted => "root noted",
    /// The repository was made on the server.
    RepoMade => "repository made",
    /// The workspace that makes the first branch is there.
    BranchMade => "branch made",
    /// What is known of the branch counts as incomplete.
    ListingBegun => "listing begun",
    /// A page of the branch's listing is in the state.
    PageListed => "page listed",
    /// The listing is complete, and what it did not show is forgotten.
    ListingEnded => "listing ended",
    /// A file cannot be pushed, and it is written down why.
    ProblemNoted => "problem noted",
    /// The batch stands in the journal, and nothing of it is on the server.
    BatchJournaled => "batch journaled",
    /// Its workspace is open.
    WorkspaceOpened => "workspace opened",
    /// Its removals are staged.
    RemovalsStaged => "removals staged",
    /// A form of small files is staged.
    FormStaged => "form staged",
    /// An upload that outlives the process stands in the state.
    UploadBegun => "upload begun",
    /// A part of a large file is on the server.
    PartSent => "part sent",
    /// It is written down that a part of a large file is on the server.
    PartNoted => "part noted",
    /// A large file is staged.
    UploadStaged => "upload staged",
    /// The journal says that the commit may have been asked for.
    CommitAnnounced => "commit announced",
    /// The server has committed the workspace, and nobody knows.
    WorkspaceMerged => "workspace merged",
    /// The server has committed a PUT, and nobody knows.
    PutCommitted => "put committed",
    /// The branch was compared with the batch.
    BatchProved => "batch proved",
    /// What is proved is in the state, the batch is closed, and the head is forgotten.
    BatchClosed => "batch closed",
    /// The state knows the new head.
    HeadNoted => "head noted",
    /// A file is gone, and the branch keeps it.
    GoneMarked => "gone marked",
    /// It is written down which files are about to be taken off.
    TakingOffNoted => "taking off noted",
    /// A file that is being taken off has a name that nobody else knows.
    SetApart => "set apart",
    /// A file was taken off, and that is not written down.
    TakenOff => "taken off",
    /// A workspace that is not needed any more is deleted.
    WorkspaceDeleted => "workspace deleted",
    /// It is written down when the next try is.
    RetryNoted => "retry noted",
    /// A batch of an earlier life is settled.
    BatchRecovered => "batch recovered",
}

/// Says that a step is done. Ends the process where a test wants that.
#[cfg(not(feature = "fault-points"))]
pub const fn passed(_: Point) {}

/// Says that a step is done. Ends the process where a test wants that.
#[cfg(feature = "fault-points")]
pub fn passed(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static WANTED: OnceLock<Option<(String, AtomicI64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("OXEN_SYNC_KILL_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicI64::new(times.parse().ok()?)))
    });
    let Some((name, left)) = wanted else { return };
    if name == point.name() && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal ends this thread before the call is over, or nothing does.
        std::process::abort();
    }
}

/// How long a folder may take for an answer: as long as is wanted, or as a test does.
#[cfg(not(feature = "fault-points"))]
pub const fn silence(wanted: std::time::Duration) -> std::time::Duration {
    wanted
}

/// How long a folder may take for an answer: as long as is wanted, or as a test does with `OXEN_SYNC_SILENCE_MS`.
#[cfg(feature = "fault-points")]
pub fn silence(wanted: std::time::Duration) -> std::time::Duration {
    let ms = std::env::var("OXEN_SYNC_SILENCE_MS").ok().and_then(|text| text.parse().ok());
    ms.map_or(wanted, std::time::Duration::from_millis)
}

/// How many changes begin a batch that is still being collected: as many as is wanted, or as a test does.
#[cfg(not(feature = "fault-points"))]
pub const fn early_min(wanted: usize) -> usize {
    wanted
}

/// How many changes begin a batch that is still being collected: as many as is wanted, or as a test does with
/// `OXEN_SYNC_EARLY_MIN`.
#[cfg(feature = "fault-points")]
pub fn early_min(wanted: usize) -> usize {
    std::env::var("OXEN_SYNC_EARLY_MIN").ok().and_then(|text| text.parse().ok()).unwrap_or(wanted)
}
