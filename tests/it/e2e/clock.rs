//! A wall clock that is wrong, and put right, keeps nothing waiting; times of files are compared and never believed.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};
use tokio::time::Instant;

use super::on_both;
use crate::standin::{Action, Rule};
use crate::support::means::leave_out;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    files_of_any_age_stand_on_the_branch,
}

/// A year, as the clock jumps.
const YEAR: &str = "365d";

/// The wall clock of the programs of a rig. That of the kernel, which stamps files, stays.
struct Clock {
    file: PathBuf,
}

impl Clock {
    /// `None` where there is no libfaketime.
    fn of(rig: &mut Rig) -> Option<Self> {
        let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = libraries
            .map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"))
            .chain(["/usr/lib/faketime/libfaketimeMT.so.1".into()])
            .find(|library| library.exists());
        let Some(library) = library else {
            leave_out("there is no libfaketime; on Debian: apt install faketime");
            return None;
        };
        let clock = Self { file: rig.dir().join("clock") };
        clock.jump("+0");
        rig.set_env("LD_PRELOAD", library.to_str().expect("a system's path"));
        rig.set_env("FAKETIME_TIMESTAMP_FILE", clock.file.to_str().expect("a path of ours"));
        rig.set_env("FAKETIME_NO_CACHE", "1");
        rig.set_env("DONT_FAKE_MONOTONIC", "1");
        rig.set_env("NO_FAKE_STAT", "1");
        Some(clock)
    }

    /// How far it is from the right time, from here on.
    fn jump(&self, by: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, by).unwrap();
        fs::rename(new, &self.file).unwrap();
    }
}

/// How many days a moment of a report lies ahead of the right time.
fn days_ahead(text: &str) -> i64 {
    let at: jiff::Timestamp = text.parse().expect("RFC 3339");
    at.duration_since(jiff::Timestamp::now()).as_secs() / (24 * 60 * 60)
}

async fn rig_with_clock(keys: &str) -> Option<(Arc<Site>, Rig, Clock)> {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, keys);
    let clock = Clock::of(&mut rig)?;
    Some((site, rig, clock))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_a_year_while_files_are_written_misses_none() {
    let Some((_site, mut rig, clock)) = rig_with_clock("on_delete = \"mirror\"").await else { return };
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    for (number, by) in ["+", "-", "+", "+"].into_iter().enumerate() {
        // One is written on while the clock jumps.
        let slow = format!("{number}/slow");
        let content = format!("{number} slow").into_bytes();
        fs::create_dir(rig.folder.join(number.to_string())).unwrap();
        let mut file = File::create(rig.folder.join(&slow)).unwrap();
        file.write_all(&content[..3]).unwrap();
        (0..10).for_each(|file| rig.write(&format!("{number}/{file}"), format!("{number}")));
        clock.jump(&format!("{by}{YEAR}"));
        rig.write("first", format!("{number}"));
        rig.ledger.finished(&slow, &content);
        file.write_all(&content[3..]).unwrap();
        drop(file);
        let from = Instant::now();
        rig.settled().await;
        assert!(from.elapsed() < Duration::from_secs(20), "it took {:?}", from.elapsed());
        rig.assert_idle().await;
        let at = rig.folder_status().await.last_commit.unwrap().at;
        let ahead = days_ahead(&at);
        assert!(
            (360..370).contains(&if by == "+" { ahead } else { -ahead }),
            "the clock has not jumped: {at}"
        );
    }
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
}

/// What waits for its next try was written down by another clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_waits_does_not_wait_for_a_clock_that_jumped() {
    for (before, after) in [("+", "-"), ("-", "+")] {
        for restarts in [false, true] {
            let Some((site, mut rig, clock)) = rig_with_clock("").await else { return };
            let standin = site.as_standin().unwrap();
            clock.jump(&format!("{before}{YEAR}"));
            rig.write("first", "1");
            rig.start();
            rig.settled().await;
            rig.assert_idle().await;
            standin.fault(Rule::any(Action::reply(500, "")).forever());
            rig.write("second", "2");
            let tries = |report: &Report| report.folders[0].retry.as_ref().map_or(0, |retry| retry.attempts);
            rig.until_status("it has tried", |report| tries(report) >= 2).await;
            if restarts {
                rig.kill();
            }
            clock.jump(&format!("{after}{YEAR}"));
            if restarts {
                rig.start();
            }
            standin.clear_faults();
            let from = Instant::now();
            rig.assert_all_holds().await;
            assert!(from.elapsed() < Duration::from_secs(20), "it took {:?}", from.elapsed());
            rig.stop().await;
        }
    }
}

/// It is tried once a day, counted by a clock that is a year ahead when it is set aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_set_aside_waits_a_day_and_not_a_year() {
    let keys = "transport = \"put\"\nrescan_interval = \"1s\"";
    let Some((site, mut rig, clock)) = rig_with_clock(keys).await else { return };
    let standin = site.as_standin().unwrap();
    clock.jump(&format!("+{YEAR}"));
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    standin.fault(Rule::on(Op::PutFiles, Action::reply(413, "")).path("poison").forever());
    rig.write("poison/file", "p");
    rig.write("d/other", "1");
    let failed = |count: i64| move |report: &Report| report.folders[0].failed == count;
    rig.until_status("it is set aside", failed(1)).await;
    standin.clear_faults();
    clock.jump("+0");
    rig.assert_all_holds().await;
    rig.until_status("it is set aside no more", failed(0)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_opens_and_closes_by_the_wall_clock() {
    let day = |days: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        at.strftime("%a").to_string()
    };
    let keys = format!("upload_window = [\"{}-{} 00:00-24:00\"]", day(2), day(4));
    let Some((_site, mut rig, clock)) = rig_with_clock(&keys).await else { return };
    rig.set_env("TZ", "UTC");
    rig.write("first", "1");
    rig.start();
    let outside = |report: &Report| report.folders[0].state == FolderState::OutsideWindow;
    rig.until_status("it waits for its window", |report| outside(report) && report.folders[0].waiting == 1)
        .await;
    clock.jump("+3d");
    rig.assert_all_holds().await;
    clock.jump("+0");
    rig.until_status("its window closes", outside).await;
    rig.stop().await;
}

/// Times as they come from cameras without a battery, from archives and from other filesystems.
async fn files_of_any_age_stand_on_the_branch(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let epoch = SystemTime::UNIX_EPOCH;
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));
    let ages = [
        ("1901", epoch - 25_000 * day),
        ("before 1970", epoch - second),
        ("a nanosecond before 1970", epoch - Duration::from_nanos(1)),
        ("1970", epoch),
        ("1980", epoch + 3_652 * day),
        ("now", SystemTime::now()),
        ("whole second", epoch + Duration::from_secs(1_700_000_000)),
        ("next year", SystemTime::now() + 365 * day),
        ("2038", epoch + Duration::from_secs(1 << 31)),
        ("2400", epoch + 157_000 * day),
    ];
    for (name, age) in ages {
        rig.write(name, name);
        set_time(&rig.folder.join(name), age);
    }
    rig.start();
    rig.assert_all_holds().await;
    // Another content of the same length under the same time; and a time that alone changes.
    for (name, age) in ages {
        let content = name.to_uppercase();
        rig.ledger.finished(name, content.as_bytes());
        let mut file = OpenOptions::new().write(true).open(rig.folder.join(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        drop(file);
        set_time(&rig.folder.join(name), age);
    }
    rig.assert_all_holds().await;
    let commits = rig.oracle().commits().await.len();
    for (name, age) in ages {
        set_time(&rig.folder.join(name), age + second);
    }
    rig.kick();
    rig.assert_all_holds().await;
    assert_eq!(rig.oracle().commits().await.len(), commits, "a time is not stored");
    rig.assert_a_restart_changes_nothing().await;
}

fn set_time(file: &Path, time: SystemTime) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.set_times(FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}
