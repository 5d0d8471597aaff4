use super::*;
use crate::config::{AfterPush, BatchLimits, DeleteBrake, MessageTemplate, TakeOff, Transport};
use crate::content::{Digests, Signature};
use crate::folder::Inbox;
use crate::oxen::{Author, Client, ClientOptions};
use crate::path::{Layout, RepoPath};
use crate::plan::Marker;
use crate::push::{PushOptions, PushStatus, Rank, Target};
use crate::state::{BatchRow, BatchTransport, Held, Phase, PlaceKey, Places, Presence, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const LIMITS: DeleteBrake = DeleteBrake { share_percent: 50, files: 10 };
const BATCH: BatchLimits = BatchLimits {
    quiet: Duration::from_secs(1),
    max_wait: Duration::from_secs(30),
    max_files: 8,
    max_bytes: 100,
};

/// The way of removals of a folder that is seen so, when all that came before is gone.
fn removals(sight: Sight) -> Removals {
    let now = Instant::now();
    let (_, outlook) = watch::channel(Outlook { sight, ..Outlook::default() });
    Removals {
        brake: Brake::new(LIMITS, BATCH, false, now),
        outlook,
        seen: 0,
        waiting: 0,
        next: None,
        span: (now, now),
        blocked: BTreeMap::new(),
        retry: None,
        failures: 0,
    }
}

#[test]
fn what_the_state_could_not_be_asked_about_is_not_done() {
    let mut removals = removals(Sight::Clear);
    assert!(removals.is_done());
    removals.retry = Some(Instant::now());
    assert!(!removals.is_done());
}

fn put(path: &str, size: u64) -> Change {
    let signature = Signature { size, mtime_ns: 0, ctime_ns: 0, inode: 0 };
    let digests = Digests { sha256: Some([0; 32]), xxh3: 0 };
    let path = LocalPath::new(std::path::Path::new(path)).unwrap();
    Change { path, place: PlaceKey::default(), kind: ChangeKind::Put { signature, digests, racy: false } }
}

#[test]
fn files_in_the_way_of_removals_that_cannot_be_judged_do_not_keep_a_push_from_its_end() {
    for (sight, is_done) in [(Sight::Blind, true), (Sight::Looking, false), (Sight::Clear, false)] {
        let mut removals = removals(sight);
        removals.brake.removed(20, Instant::now());
        removals.set_apart(&[], vec![put("t", 1)]);
        assert_eq!(removals.is_done(), is_done, "{sight:?}");
        removals.brake.idle();
        assert!(!removals.is_done(), "it can go back to the others");
    }
}

#[test]
fn of_a_file_that_waits_for_removals_the_latest_counts() {
    let mut removals = removals(Sight::Clear);
    removals.set_apart(&[], vec![put("t", 1), put("u", 1)]);
    removals.set_apart(&[put("u", 2)], vec![put("t", 2)]);
    assert_eq!(removals.blocked.into_values().collect::<Vec<_>>(), [put("t", 2)]);
}

/// A folder in mirror mode whose branch holds some files, with a server that nobody asks.
struct Mirror {
    pusher: Pusher,
    planner: Planner,
    outlook: watch::Sender<Outlook>,
    sender: mpsc::Sender<Finished>,
    queue: Queue,
    batches: i64,
    _dir: tempfile::TempDir,
}

fn file(name: &str, content: u8) -> Change {
    let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
    let digests = Digests { sha256: Some([content; 32]), xxh3: content.into() };
    let path = LocalPath::new(std::path::Path::new(name)).unwrap();
    Change { path, place: PlaceKey::default(), kind: ChangeKind::Put { signature, digests, racy: false } }
}

/// Files with these names in front of a number, each with a content of its own.
fn files(name: &str, contents: std::ops::Range<u8>) -> Vec<Change> {
    contents.map(|content| file(&format!("{name}{content:03}"), content)).collect()
}

impl Mirror {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let client = Client::new(ClientOptions {
            url: "http://localhost:1".parse().unwrap(),
            key: None,
            proxy: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(1),
            limit: None,
            silence_timeout: Duration::from_secs(1),
        });
        let author = Author { name: "rig-07".to_owned(), email: "rig-07@lab.example".to_owned() };
        let target =
            Target::new(client.unwrap(), "lab/rig".parse().unwrap(), "main".parse().unwrap(), author);
        let folder = state.folder("a").unwrap();
        let places = Places::load(&state, folder, &RepoPath::root(), &Layout::in_dir("").unwrap()).unwrap();
        let options = PushOptions {
            path: dir.path().into(),
            folder,
            places: Arc::new(places),
            transport: Transport::Auto,
            marker: Marker::default(),
            limits: BATCH,
            mirror: true,
            delete_brake: LIMITS,
            after_push: AfterPush { action: TakeOff::Keep, min_age: Duration::ZERO },
            exclude: Vec::new(),
            include: Vec::new(),
            release_command: "release".to_owned(),
            message: MessageTemplate::default(),
            host: "rig-07".to_owned(),
            instance: "a".to_owned(),
            concurrency: 1,
            rank: Rank::new(Arc::default(), 5),
            check_interval: Duration::from_secs(3600),
            lasting: true,
            calls: Arc::default(),
        };
        let (inbox, budget) = (Arc::new(Inbox::default()), Arc::new(Semaphore::new(1)));
        let status = watch::Sender::new(PushStatus::default());
        let (sender, queue) = mpsc::channel(100);
        Self {
            pusher: Pusher::new(options, target, state, inbox, budget, status),
            planner: Planner::new(BATCH, Marker::default()),
            outlook: watch::Sender::new(Outlook::default()),
            sender,
            queue,
            batches: 0,
            _dir: dir,
        }
    }

    fn removals(&self) -> Removals {
        Removals::load(&self.pusher, self.outlook.subscribe())
    }

    /// The branch holds these.
    fn pushed(&mut self, changes: &[Change]) {
        self.batches += 1;
        let batch = BatchRow {
            id: self.batches,
            phase: Phase::Staging,
            transport: BatchTransport::Put,
            workspace: String::new(),
            message: String::new(),
        };
        let (state, folder) = (&self.pusher.state, self.pusher.options.folder);
        state.open_batch(folder, &batch, changes, 0).unwrap();
        state.close_batch(folder, self.batches, Some("c"), changes, 0).unwrap();
    }

    async fn removed(&mut self, removals: &mut Removals, changes: &[Change]) {
        let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
        self.pusher.state.mark_gone(self.pusher.options.folder, &paths, Presence::Waiting).unwrap();
        self.outlook.send_modify(|outlook| outlook.removals += paths.len() as u64);
        removals.step(&self.pusher, &mut self.planner).await;
    }

    async fn seen(&mut self, removals: &mut Removals, sight: Sight) {
        self.outlook.send_modify(|outlook| outlook.sight = sight);
        removals.step(&self.pusher, &mut self.planner).await;
        removals.judge(&self.pusher, &self.planner, &self.queue, false).await;
        removals.step(&self.pusher, &mut self.planner).await;
    }

    fn held(&self) -> Option<Held> {
        self.pusher.state.held(self.pusher.options.folder).unwrap()
    }

    /// A data set that gets other names for very long: most of the old ones are gone, and few of the new ones hashed.
    async fn half_renamed(&mut self) -> Removals {
        let mut removals = self.removals();
        self.pushed(&files("old", 0..40));
        self.seen(&mut removals, Sight::Coming).await;
        self.removed(&mut removals, &files("old", 0..40)).await;
        self.pushed(&files("new", 0..4));
        tokio::time::advance(Duration::from_secs(3600)).await;
        self.seen(&mut removals, Sight::Coming).await;
        let held = self.held().unwrap();
        assert_eq!((held.files, held.before), (40, Some(40)));
        removals
    }
}

#[tokio::test(start_paused = true)]
async fn a_data_set_that_gets_other_names_for_very_long_is_let_go_when_all_was_seen() {
    for restarted in [false, true] {
        let mut mirror = Mirror::new();
        let mut removals = mirror.half_renamed().await;
        if restarted {
            removals = mirror.removals();
        }
        mirror.pushed(&files("new", 4..30));
        for new in files("new", 30..36) {
            mirror.planner.add(new, Instant::now());
        }
        let finished = Finished { change: file("new036", 36), run: None, seen: Instant::now() };
        mirror.sender.send(finished).await.unwrap();
        tokio::time::advance(Duration::from_secs(3600)).await;
        mirror.seen(&mut removals, Sight::Clear).await;
        let before = Some(40);
        assert_eq!(mirror.held().map(|held| held.before), Some(before), "not all of it was taken out");
        mirror.queue.recv().await.unwrap();
        mirror.pushed(&files("new", 36..40));
        mirror.seen(&mut removals, Sight::Clear).await;
        assert_eq!((mirror.held(), removals.is_holding()), (None, false));
        // All of it is on its way.
        let folder = mirror.pusher.options.folder;
        assert_eq!(mirror.pusher.state.released_removals(folder, None, 99).unwrap().len(), 40);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_for_now_is_held_for_good_whatever_else_came() {
    let mut mirror = Mirror::new();
    let mut removals = mirror.half_renamed().await;
    // In number these make up for everything.
    mirror.pushed(&files("other", 100..200));
    tokio::time::advance(Duration::from_secs(3600)).await;
    mirror.seen(&mut removals, Sight::Clear).await;
    assert_eq!(mirror.held().map(|held| (held.files, held.before)), Some((40, None)));
    mirror.pushed(&files("new", 4..40));
    mirror.seen(&mut removals, Sight::Clear).await;
    assert!(removals.is_holding(), "someone has to say so by now");
    let folder = mirror.pusher.options.folder;
    assert_eq!(mirror.pusher.state.released_removals(folder, None, 99).unwrap(), []);
}
