//! Any sequence of file operations, interleaved with faults, ends with the folder on the branch. A sequence that fails is
//! shrunk to the smallest one that still does, and can be replayed from its seed.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use oxen_sync::oxen::Op;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;
use walkdir::WalkDir;

use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

/// The variable that replays one sequence.
const SEED: &str = "OXEN_SYNC_TEST_SEED";
/// Sequences at once: each has a process of its own.
const AT_ONCE: u64 = 8;
/// How often a sequence is tried while it is shrunk: what fails by chance may pass once.
const TRIES: usize = 3;
/// How long a sequence that is known to fail is waited for.
const SHRINK_PATIENCE: Duration = Duration::from_secs(10);

/// Contents that were finished in all sequences.
static FILES: AtomicUsize = AtomicUsize::new(0);

/// A server for each sequence.
#[derive(Clone, Copy)]
enum On {
    StandIn,
    RealServer,
}

#[test]
fn any_history_ends_up_on_the_branch() {
    run(On::StandIn, 100);
}

#[test]
fn any_history_ends_up_on_the_branch_of_the_real_server() {
    run(On::RealServer, 12);
}

#[test]
#[ignore = "takes minutes"]
fn long_any_history_ends_up_on_the_branch() {
    run(On::StandIn, 2_000);
}

#[test]
#[ignore = "takes minutes"]
fn long_any_history_ends_up_on_the_branch_of_the_real_server() {
    run(On::RealServer, 300);
}

/// One thing that happens. Files, directories and places are numbers, taken modulo how many there are, so that a sequence
/// still means something when a part of it is left out.
#[derive(Debug, Clone)]
enum Step {
    Create {
        place: usize,
        len: usize,
        fill: u8,
    },
    Append {
        file: usize,
        len: usize,
        fill: u8,
    },
    Rewrite {
        file: usize,
        len: usize,
        fill: u8,
    },
    SaveAtomically {
        file: usize,
        len: usize,
        fill: u8,
    },
    /// Other bytes, and all that `stat` usually tells apart is as it was.
    RewriteUnseen {
        file: usize,
        fill: u8,
    },
    RenameFile {
        file: usize,
        place: usize,
    },
    RenameDir {
        dir: usize,
        place: usize,
    },
    Delete {
        file: usize,
    },
    DeleteDir {
        dir: usize,
    },
    Chmod {
        file: usize,
        mode: u32,
    },
    Symlink {
        file: usize,
        place: usize,
    },
    HardLink {
        file: usize,
        place: usize,
    },
    MakeDirs {
        place: usize,
    },
    MoveFileOut {
        file: usize,
    },
    MoveDirOut {
        dir: usize,
    },
    MoveIn {
        place: usize,
    },
    Wait {
        ms: u64,
    },
    Fault {
        op: usize,
        action: usize,
    },
    Kill,
    Stop,
    CutConnections,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1 => Just(0), 8 => 1_usize..5_000, 1 => 1_100_000_usize..1_400_000];
    let content = (any::<usize>(), len, any::<u8>());
    let (file, place) = (any::<usize>(), any::<usize>());
    prop_oneof![
        12 => content.clone().prop_map(|(place, len, fill)| Step::Create { place, len, fill }),
        4 => content.clone().prop_map(|(file, len, fill)| Step::Append { file, len, fill }),
        5 => content.clone().prop_map(|(file, len, fill)| Step::Rewrite { file, len, fill }),
        5 => content.prop_map(|(file, len, fill)| Step::SaveAtomically { file, len, fill }),
        3 => (file, any::<u8>()).prop_map(|(file, fill)| Step::RewriteUnseen { file, fill }),
        4 => (file, place).prop_map(|(file, place)| Step::RenameFile { file, place }),
        4 => (file, place).prop_map(|(dir, place)| Step::RenameDir { dir, place }),
        4 => file.prop_map(|file| Step::Delete { file }),
        2 => file.prop_map(|dir| Step::DeleteDir { dir }),
        1 => (file, prop_oneof![Just(0o600), Just(0o644), Just(0o755)])
            .prop_map(|(file, mode)| Step::Chmod { file, mode }),
        2 => (file, place).prop_map(|(file, place)| Step::Symlink { file, place }),
        2 => (file, place).prop_map(|(file, place)| Step::HardLink { file, place }),
        2 => place.prop_map(|place| Step::MakeDirs { place }),
        2 => file.prop_map(|file| Step::MoveFileOut { file }),
        2 => file.prop_map(|dir| Step::MoveDirOut { dir }),
        3 => place.prop_map(|place| Step::MoveIn { place }),
        12 => (0_u64..250).prop_map(|ms| Step::Wait { ms }),
        4 => (0..OPS.len(), 0..actions().len()).prop_map(|(op, action)| Step::Fault { op, action }),
        1 => Just(Step::Kill),
        1 => Just(Step::Stop),
        1 => Just(Step::CutConnections),
    ]
}

const OPS: &[Op] = &[
    Op::ReadBranch,
    Op::OpenWorkspace,
    Op::StageFiles,
    Op::StageRemovals,
    Op::BeginUpload,
    Op::PutPart,
    Op::MergeWorkspace,
    Op::PutFiles,
    Op::ReadEntry,
    Op::DeleteWorkspace,
];

fn actions() -> Vec<Action> {
    vec![
        Action::ResetBefore,
        Action::ResetInside { after_bytes: 10 },
        Action::ResetAfter,
        Action::LandLate(Duration::from_millis(300)),
        Action::CutAnswer { after_bytes: 9 },
        Action::Delay(Duration::from_millis(200)),
        Action::StageHalf,
        Action::LoseHalf,
        Action::reply(500, ""),
        Action::reply(503, ""),
        Action::reply(200, r#"{"status":"success","#),
        Action::reply(200, r#"{"status":"error","status_message":"no space left on device"}"#),
    ]
}

/// Names of files and directories alike, so that the one takes the other's place.
const NAMES: &[&str] = &["a", "b", "c c", "ü.dat"];

/// The path of a place: one to three names.
fn path_of(place: usize) -> String {
    let mut rest = place;
    let mut next = |count: usize| {
        let digit = rest % count;
        rest /= count;
        digit
    };
    let depth = 1 + next(3);
    (0..depth).map(|_| NAMES[next(NAMES.len())]).collect::<Vec<_>>().join("/")
}

fn run(on: On, cases: u64) {
    if let On::RealServer = on
        && runtime().block_on(Site::real()).is_none()
    {
        return;
    }
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        return check(on, seed);
    }
    let first = fastrand::u64(..u64::MAX - cases);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE.min(cases))
            .map(|thread| {
                scope.spawn(move || {
                    for n in (thread..cases).step_by(AT_ONCE as usize) {
                        check(on, first + n);
                    }
                })
            })
            .collect();
        // All threads are waited for, and the first that failed fails the test.
        let ends: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        assert!(ends.iter().all(Result::is_ok), "a sequence failed: its smallest form is told above");
    });
    let files = FILES.load(Ordering::Relaxed);
    eprintln!("{cases} sequences, {files} files: none lost, torn or committed twice");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Runs the sequence of a seed, and shrinks it if it fails.
fn check(on: On, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 400,
        max_shrink_time: 300_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = runtime();
    let is_shrinking = Cell::new(false);
    let outcome = runner.run(&proptest::collection::vec(step(), 1..45), |steps| {
        let (tries, patience) = if is_shrinking.get() { (TRIES, Some(SHRINK_PATIENCE)) } else { (1, None) };
        for _ in 0..tries {
            let played = runtime.block_on(async { tokio::spawn(play(on, steps.clone(), patience)).await });
            if played.is_err() {
                is_shrinking.set(true);
                return Err(TestCaseError::fail("it does not hold"));
            }
        }
        Ok(())
    });
    if let Err(TestError::Fail(_, steps)) = outcome {
        eprintln!("this sequence does not end up on the branch; replay it with {SEED}={seed}\n{steps:#?}");
        panic!("a sequence fails");
    }
    assert!(outcome.is_ok(), "{outcome:?}");
}

async fn play(on: On, steps: Vec<Step>, patience: Option<Duration>) {
    let site = match on {
        On::StandIn => Site::standin().await,
        On::RealServer => Site::real_behind_gate().await.expect("there is one"),
    };
    let site = Arc::new(site);
    // A file with several names is seen by all of them when the folder is compared.
    let mut rig = Rig::new(
        &site,
        "on_delete = \"mirror\"\ndelete_brake.share = \"100%\"\nbatch.quiet = \"20ms\"\nrescan_interval = \"2s\"",
    );
    if let Some(patience) = patience {
        rig.patience = patience;
    }
    rig.start();
    let mut stage = Stage { away: rig.dir().join("away"), moved: Vec::new(), count: 0 };
    fs::create_dir(&stage.away).unwrap();
    for step in &steps {
        match step {
            Step::Wait { ms } => sleep(Duration::from_millis(*ms)).await,
            Step::Fault { op, action } => {
                site.gate().fault(Rule::on(OPS[*op], actions()[*action].clone()));
            }
            Step::Kill => {
                rig.kill();
                rig.start();
            }
            Step::Stop => {
                rig.until_status("it can be stopped", |_| true).await;
                rig.stop().await;
                rig.start();
            }
            Step::CutConnections => site.gate().cut_connections(),
            step => stage.act(&rig, step),
        }
    }
    site.gate().clear_faults();
    rig.until_status("it runs", |_| true).await;
    // Cuts the wait for the next try short.
    kill_process(rig.pid(), Signal::HUP).unwrap();
    rig.assert_all_holds().await;
    FILES.fetch_add(rig.ledger.len(), Ordering::Relaxed);
    rig.stop().await;
}

/// What is outside of the folder.
struct Stage {
    away: PathBuf,
    /// Files and directories that were moved out, the oldest first.
    moved: Vec<PathBuf>,
    count: u32,
}

impl Stage {
    fn act(&mut self, rig: &Rig, step: &Step) {
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
                rig.ledger.finished(&path, &content);
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
