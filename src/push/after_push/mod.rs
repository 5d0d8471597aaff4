//! Files that are on the branch are taken off the machine: `after_push`.
//!
//! A pass goes through what is known of the folder in the order of the paths, some hundred files at a time: [`find`] reads
//! each once more and asks the branch about it, [`take_off`] takes it off. In between the worker pushes what is due.

mod find;
mod take_off;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::pusher::{Failure, Pusher};
use crate::config::TakeOff;
use crate::path::{LocalPath, printable};
use crate::plan::retire::{self, Stays};

/// The first pass begins so long after the start at the most.
const FIRST: Duration = Duration::from_secs(5);
/// When to try again what a folder or the state did not let us do.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct AfterPush {
    /// When something is to be done next; `None` for never.
    next: Option<Instant>,
    /// Whether it may be open what became of a file that was about to be taken off.
    is_open: bool,
    /// Files that a scan has met under the name that nobody else knows, by their own.
    strays: Vec<LocalPath>,
    pass: Pass,
    /// Files of which it was said that they could not be given their own names back.
    told_left: BTreeSet<LocalPath>,
    /// What was last said to be in the way; empty where nothing is.
    told: String,
}

/// How far a pass has come.
#[derive(Debug, Default)]
struct Pass {
    after: Option<LocalPath>,
    files: u64,
    bytes: u64,
    stays: BTreeMap<Stays, (u64, LocalPath)>,
    /// The time for which the state was looked through.
    looking: Duration,
}

impl Pass {
    fn stays(&mut self, why: Stays, path: LocalPath) {
        self.stays.entry(why).or_insert((0, path)).0 += 1;
    }

    /// Says what was taken off.
    fn tell(&self, pusher: &Pusher) {
        let Self { files, bytes, .. } = *self;
        let folder = printable(&pusher.options.path);
        match &pusher.options.after_push.action {
            _ if files == 0 => {}
            TakeOff::Move(to) => {
                tracing::info!(%folder, files, bytes, to = %printable(to), "moved away here; the branch holds them");
            }
            _ => tracing::info!(%folder, files, bytes, "deleted here; the branch holds them"),
        }
    }
}

impl AfterPush {
    /// What an earlier life has left half done is settled first, also where nothing is to be taken off any more.
    pub(super) fn load(pusher: &Pusher) -> Self {
        let options = &pusher.options;
        let is_open = pusher.state.half_taken_off(options.folder, None).map_or(true, |half| !half.is_empty());
        let now = Instant::now();
        let first = now + FIRST.min(retire::interval(options.after_push.min_age));
        let next = if is_open { Some(now) } else { is_wanted(pusher).then_some(first) };
        Self {
            next,
            is_open,
            strays: Vec::new(),
            pass: Pass::default(),
            told_left: BTreeSet::new(),
            told: String::new(),
        }
    }

    /// Takes over what a scan has met of an earlier life of which nothing is remembered.
    pub(super) fn take_strays(&mut self, pusher: &Pusher) {
        let strays = pusher.inbox.take_strays();
        if !strays.is_empty() {
            self.strays.extend(strays);
            self.is_open = true;
            self.next = Some(Instant::now());
        }
    }

    /// Whether nothing of an earlier life is left to be settled.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_open
    }

    /// When something is to be done. While pushing is `in_trouble`, nothing new is begun.
    pub(super) fn due_at(&self, in_trouble: bool) -> Option<Instant> {
        self.next.filter(|_| self.is_open || !in_trouble)
    }

    /// Ends a pass that has come to its end, and says what came of it.
    fn end_pass(&mut self, pusher: &Pusher) {
        let pass = std::mem::take(&mut self.pass);
        self.next = Some(Instant::now() + retire::rest(pusher.options.after_push.min_age, pass.looking));
        pass.tell(pusher);
        let told = pass.stays.iter().filter_map(|(why, (count, example))| {
            let reason = why.to_be_told()?;
            let files = if *count == 1 { "file stays" } else { "files stay" };
            Some(format!("{count} {files}, for one {example}: {reason}"))
        });
        self.tell(pusher, told.collect::<Vec<_>>().join("; "));
    }

    /// The pass cannot go on; a later one begins anew.
    fn fail(&mut self, pusher: &Pusher, failure: &Failure) {
        let pass = std::mem::take(&mut self.pass);
        pass.tell(pusher);
        let wait = retire::rest(pusher.options.after_push.min_age, pass.looking);
        let wait = if self.is_open { RETRY.min(wait) } else { wait };
        // One shot leaves to the service what it cannot settle.
        self.is_open &= pusher.options.lasting;
        self.next = (self.is_open || is_wanted(pusher)).then(|| Instant::now() + wait);
        self.tell(pusher, format!("nothing more is taken off for now: {}", failure.reason));
    }

    /// One line for each change, not for each pass.
    fn tell(&mut self, pusher: &Pusher, what: String) {
        if what != self.told && !what.is_empty() {
            tracing::warn!(folder = %printable(&pusher.options.path), "after_push: {what}");
        }
        pusher.status.send_if_modified(|status| {
            let is_new = status.staying != what;
            status.staying.clone_from(&what);
            is_new
        });
        self.told = what;
    }
}

/// Whether files are taken off at all. One shot takes off none.
fn is_wanted(pusher: &Pusher) -> bool {
    pusher.options.lasting && pusher.options.after_push.action != TakeOff::Keep
}
