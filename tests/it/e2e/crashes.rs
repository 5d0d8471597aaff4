//! An end behind any step that lasts, a loss of power, and a memory that is broken or another's.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use oxen_sync::fault_point::Point;
use oxen_sync::oxen::Op;
use rustix::process::{Signal, kill_process};

use super::work::Work;
use super::{before_both, on_both};
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

const KILL_AT: &str = "OXEN_SYNC_KILL_AT";
/// Rigs at once: each is a process of its own.
const AT_ONCE: usize = 6;

mod steps {
    use super::*;

    before_both! { an_end_behind_any_step_that_lasts_loses_and_doubles_nothing }

    async fn an_end_behind_any_step_that_lasts_loses_and_doubles_nothing(site: &Arc<Site>) {
        // Those of files that are taken off have tests of their own.
        let points = Point::ALL.iter().filter(|point| !super::super::after_push::ENDS.contains(point));
        let alone = points.map(|point| (*point, false));
        let early = EARLY.iter().map(|point| (*point, true));
        let ends = alone.chain(early).map(|(point, early)| async move {
            let site = Arc::new(site.another().await);
            let ended = tokio::spawn(end_behind(site, point, early)).await;
            ended.unwrap_or_else(|_| panic!("the end behind {:?} is not mended", point.name()))
        });
        let files: Vec<usize> = stream::iter(ends).buffer_unordered(AT_ONCE).collect().await;
        eprintln!(
            "{} ends, {} files: none lost, torn or committed twice",
            files.len(),
            files.iter().sum::<usize>()
        );
    }
}

/// Steps that a batch which is staged while it is collected comes by as well.
const EARLY: [Point; 8] = [
    Point::BatchJournaled,
    Point::WorkspaceOpened,
    Point::FormStaged,
    Point::CommitAnnounced,
    Point::WorkspaceMerged,
    Point::BatchProved,
    Point::BatchClosed,
    Point::HeadNoted,
];

async fn end_behind(site: Arc<Site>, point: Point, early: bool) -> usize {
    let keys = match point {
        Point::GoneMarked => "",
        Point::PutCommitted => "on_delete = \"mirror\"\ntransport = \"put\"",
        _ => "on_delete = \"mirror\"\ntransport = \"workspace\"\nremote_path = \"raw/{dir}/x/{name}\"",
    };
    let mut rig = Rig::new(&site, keys);
    let bad_name = "a name\\with a backslash";
    rig.left_out.push(bad_name.into());
    rig.write(bad_name, "1");
    rig.write("a/kept", "1");
    rig.write("a/changed", "1");
    rig.write("b/removed", "1");
    prepare(&mut rig, point).await;
    if early {
        rig.set_out_early();
    }
    rig.set_env(KILL_AT, point.name());
    rig.start();
    let mut ended = rig.settled_or_ended().await;
    if ended.is_none() {
        rig.write("a/changed", "2");
        rig.write("c/new", "3");
        rig.write("large", vec![7; large_len(point)]);
        fs::remove_file(rig.folder.join("b/removed")).unwrap();
        ended = rig.settled_or_ended().await;
    }
    let signal = ended.and_then(|status| status.signal());
    assert_eq!(signal, Some(9), "the step {:?} is never done\n{}", point.name(), rig.log());
    rig.unset_env(KILL_AT);
    rig.start();
    rig.assert_all_holds().await;
    let files = rig.wanted().len();
    rig.assert_a_restart_changes_nothing().await;
    files
}

/// Large enough for the steps of a large file, and of one that is gone on with after the end.
fn large_len(point: Point) -> usize {
    if matches!(point, Point::UploadBegun | Point::PartNoted) { 33 << 20 } else { 1_200_000 }
}

/// Brings about what makes the program come by a step that it does not always come by.
async fn prepare(rig: &mut Rig, point: Point) {
    match point {
        Point::StateSetAside => {
            fs::create_dir_all(&rig.state_dir).unwrap();
            fs::write(rig.state_dir.join("state.db"), "no database, but long enough to be one").unwrap();
        }
        // With something on the branch, and nothing known of it.
        Point::ListingBegun | Point::PageListed | Point::ListingEnded => {
            rig.start();
            rig.settled().await;
            rig.stop().await;
            fs::remove_dir_all(&rig.state_dir).unwrap();
        }
        Point::RetryNoted => {
            // Enough for a batch that sets out before it is due, and begins anew when it is.
            rig.site.gate().fault(Rule::on(Op::StageFiles, Action::reply(503, "")).times(12));
        }
        Point::BatchRecovered | Point::WorkspaceDeleted => {
            rig.set_env(KILL_AT, Point::WorkspaceOpened.name());
            rig.start();
            assert!(rig.settled_or_ended().await.is_some(), "it ends");
            rig.unset_env(KILL_AT);
        }
        // Small files of one directory.
        Point::PutCommitted => fs::remove_dir_all(rig.folder.join("b")).unwrap(),
        _ => {}
    }
}

on_both! {
    a_loss_of_power_at_any_moment_loses_and_doubles_nothing,
    #[ignore = "takes minutes: tests/run --long"]
    long_losses_of_power_lose_and_double_nothing,
    a_memory_from_any_time_ago_loses_and_doubles_nothing,
}

async fn a_loss_of_power_at_any_moment_loses_and_doubles_nothing(site: &Arc<Site>) {
    lose_power(site, 8).await;
}

async fn long_losses_of_power_lose_and_double_nothing(site: &Arc<Site>) {
    lose_power(site, 200).await;
}

/// What a machine without power starts with again is the state as it is at one moment, with garbage where a write was
/// under way; what was asked of the server by then comes to its end there.
async fn lose_power(site: &Arc<Site>, times: u32) {
    let mut rig =
        Rig::new(site, "on_delete = \"mirror\"\nbatch.quiet = \"0s\"\ndelete_brake.share = \"100%\"");
    let mut work = Work::in_folder_of(&rig);
    (0..10).for_each(|_| work.change());
    let copy = rig.dir().join("copy");
    for _ in 0..times {
        rig.start();
        let until = Duration::from_millis(work.rng().u64(50..800));
        work.run(u32::try_from(until.as_millis() / 60).unwrap() + 1, until).await;
        kill_process(rig.pid(), Signal::STOP).unwrap();
        copy_state(&rig.state_dir, &copy);
        rig.kill();
        if let Ok(mut log) = File::options().append(true).open(copy.join("state.db-wal")) {
            log.write_all(&vec![work.rng().u8(..); work.rng().usize(..10_000)]).unwrap();
        }
        let _ = fs::remove_file(copy.join("state.db-shm"));
        copy_state(&copy, &rig.state_dir);
        work.change();
    }
    work.finish();
    rig.start();
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
    eprintln!("{times} losses of power, {} files: none lost, torn or committed twice", rig.wanted().len());
}

/// As when a virtual machine is set back: what was pushed since is there and must not be pushed again, and what has
/// changed since must be.
async fn a_memory_from_any_time_ago_loses_and_doubles_nothing(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "batch.quiet = \"0s\"");
    let mut work = Work::in_folder_of(&rig).without_changes_of_kind();
    rig.start();
    let copies: Vec<PathBuf> = (0..4).map(|n| rig.dir().join(format!("copy {n}"))).collect();
    for copy in &copies {
        work.run(12, Duration::from_millis(900)).await;
        kill_process(rig.pid(), Signal::STOP).unwrap();
        copy_state(&rig.state_dir, copy);
        kill_process(rig.pid(), Signal::CONT).unwrap();
    }
    work.run(12, Duration::from_millis(900)).await;
    work.finish();
    rig.assert_all_holds().await;
    for copy in copies.iter().rev() {
        let head = rig.oracle().head().await;
        rig.stop().await;
        copy_state(copy, &rig.state_dir);
        rig.start();
        rig.assert_all_holds().await;
        assert_eq!(rig.oracle().head().await, head, "what is there is not committed again\n{}", rig.log());
        rig.stop().await;
        copy_state(copy, &rig.state_dir);
        (0..12).for_each(|_| work.change());
        work.finish();
        rig.start();
        rig.assert_all_holds().await;
    }
    rig.stop().await;
}

fn copy_state(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// What happens to a database that nobody has open.
type Damage = fn(&Path);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_used_is_set_aside_and_nothing_is_sent_again() {
    let damages: &[(&str, Damage)] = &[
        ("truncated to half", |db| set_len(db, len(db) / 2)),
        ("truncated to a page and a half", |db| set_len(db, 6_000)),
        ("truncated to nothing", |db| set_len(db, 0)),
        ("zeroed", |db| overwrite(db, 0, &vec![0; len(db) as usize])),
        ("zeroed in its middle", |db| overwrite(db, len(db) / 2 - 8192, &[0; 16_384])),
        ("garbage", |db| overwrite(db, 0, &vec![0x5a; len(db) as usize])),
        ("of a newer schema", |db| sql(db, "PRAGMA user_version = 1000")),
        ("of another machine", |db| sql(db, "UPDATE note SET value = 'another' WHERE key = 'machine'")),
        ("gone", |db| fs::remove_file(db).unwrap()),
    ];
    let all = damages.iter().map(|(name, damage)| async move {
        let harmed = tokio::spawn(harm_state(*damage)).await;
        harmed.unwrap_or_else(|_| panic!("a state that is {name} is not mended"));
    });
    stream::iter(all).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn harm_state(damage: Damage) {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    (0..300).for_each(|n| rig.write(&format!("d{}/file {n}", n % 7), format!("{n}")));
    rig.write("large", vec![7; 3 << 20]);
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
    let head = rig.oracle().head().await;
    let bytes = || [Op::StageFiles, Op::PutPart].map(|op| standin.count(op).body_bytes);
    let sent = bytes();
    damage(&rig.state_dir.join("state.db"));
    rig.start();
    rig.assert_all_holds().await;
    assert_eq!(rig.oracle().head().await, head, "nothing is committed again\n{}", rig.log());
    assert_eq!(bytes(), sent, "nothing is sent again");
    rig.write("later", "1");
    fs::remove_file(rig.folder.join("d1/file 1")).unwrap();
    rig.assert_all_holds().await;
    rig.stop().await;
}

fn len(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}

fn set_len(file: &Path, len: u64) {
    File::options().write(true).open(file).unwrap().set_len(len).unwrap();
}

fn sql(db: &Path, statement: &str) {
    rusqlite::Connection::open(db).unwrap().execute_batch(statement).unwrap();
}
