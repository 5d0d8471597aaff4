use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::*;
use crate::content::is_apart;

struct Fixture {
    dir: tempfile::TempDir,
    taker: Taker,
    /// What the kernel sends to whoever holds a lease ends a process that does not listen for it.
    _sigio: Signal,
}

fn local(path: &str) -> LocalPath {
    LocalPath::new(Path::new(path)).unwrap()
}

impl Fixture {
    fn new(moves: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in ["folder/d", "pushed"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("folder/d/f"), "1").unwrap();
        let open = |path: &str| Arc::new(RootDir::open(&dir.path().join(path)).unwrap());
        let folders = Folders { root: open("folder"), to: moves.then(|| open("pushed")) };
        let taker = Taker { folders, stop: CancellationToken::new() };
        Self { dir, taker, _sigio: signal(SignalKind::io()).unwrap() }
    }

    fn leaving(&self) -> Leaving {
        let signature = self.taker.folders.root.open_file(&local("d/f")).unwrap().signature;
        Leaving { path: local("d/f"), signature }
    }

    /// What becomes of the file where this happens while it has the other name.
    fn take(&self, meanwhile: impl FnOnce(&Path)) -> Outcome {
        let Ok(leaver) = self.taker.set_apart(&self.leaving()) else { panic!("nothing is in the way") };
        let apart = apart_of(&local("d/f")).under(&self.dir.path().join("folder"));
        assert!(apart.exists() && is_apart(apart.file_name().unwrap()));
        meanwhile(&apart);
        let mut outcome = Outcome::default();
        self.taker.finish(leaver, &mut outcome);
        outcome
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join(path)).ok()
    }
}

#[tokio::test]
async fn a_reader_reads_on_while_its_file_goes() {
    let f = Fixture::new(false);
    let mut reader = File::open(f.dir.path().join("folder/d/f")).unwrap();
    let outcome = f.take(|_| {});
    assert_eq!((outcome.gone, outcome.bytes, f.read("folder/d/f")), (vec![local("d/f")], 1, None));
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, "1");
}

/// By the other name: as one does who had found the file by its own just before.
#[tokio::test]
async fn whoever_comes_to_write_at_the_last_moment_writes_to_the_file_in_its_place() {
    for moves in [false, true] {
        let f = Fixture::new(moves);
        let mut writer = None;
        let outcome = f.take(|apart| {
            let path = apart.to_owned();
            writer = Some(std::thread::spawn(move || {
                OpenOptions::new().append(true).open(path).unwrap().write_all(b"2").unwrap();
            }));
            let look = || leased(f.taker.folders.root.open_file(&apart_of(&local("d/f"))).unwrap());
            // It has come, and waits.
            while look().is_ok() {
                std::thread::yield_now();
            }
        });
        assert_eq!(outcome.stays, [(Stays::Busy, local("d/f"))]);
        assert_eq!((&outcome.stayed, &outcome.moved), (&vec![local("d/f")], &vec![local("d/f")]));
        writer.unwrap().join().unwrap();
        assert_eq!((f.read("folder/d/f").as_deref(), f.read("pushed/d/f")), (Some("12"), None));
    }
}

#[tokio::test]
async fn a_file_whose_name_was_taken_meanwhile_is_lost_in_no_case() {
    let f = Fixture::new(true);
    let outcome = f.take(|_| fs::write(f.dir.path().join("pushed/d/f"), "other").unwrap());
    assert_eq!(outcome.stays, [(Stays::Taken, local("d/f"))]);
    assert_eq!(
        (f.read("folder/d/f").as_deref(), f.read("pushed/d/f").as_deref()),
        (Some("1"), Some("other"))
    );
    // Its own as well.
    fs::remove_file(f.dir.path().join("pushed/d/f")).unwrap();
    let outcome = f.take(|_| {
        fs::write(f.dir.path().join("pushed/d/f"), "other").unwrap();
        fs::write(f.dir.path().join("folder/d/f"), "new").unwrap();
    });
    assert_eq!(outcome.left, [(local("d/f"), TAKEN.to_owned())]);
    assert!(outcome.stayed.is_empty() && outcome.gone.is_empty());
    let apart = apart_of(&local("d/f")).under(&f.dir.path().join("folder"));
    assert_eq!(
        (fs::read_to_string(apart).unwrap().as_str(), f.read("folder/d/f").as_deref()),
        ("1", Some("new"))
    );
}

#[tokio::test]
async fn nothing_goes_once_nobody_waits_for_the_folder_any_more() {
    let f = Fixture::new(false);
    let outcome = f.take(|_| f.taker.stop.cancel());
    assert_eq!((outcome.stayed, f.read("folder/d/f").as_deref()), (vec![local("d/f")], Some("1")));
}
