//! Runs: what a marker finishes is committed whole, and not before.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::Report;

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

before_both! {
    a_run_is_committed_whole_when_its_marker_appears,
    a_run_that_takes_longer_than_a_batch_may_wait_is_one_commit,
    a_run_that_is_finished_again_before_its_batch_is_due_is_one_commit,
    a_log_that_never_ends_keeps_no_run_from_the_branch,
    a_run_that_was_finished_while_nobody_looked_is_one_commit,
    a_run_is_one_commit_whenever_the_process_ends,
    a_marker_waits_for_what_changes_while_its_run_is_on_its_way,
    many_runs_that_are_together_larger_than_a_batch_are_one_commit_each_at_most,
    a_run_that_is_larger_than_a_batch_has_its_marker_in_the_last,
    a_directory_whose_marker_has_gone_holds_another_run,
    a_push_by_hand_takes_finished_runs_alone,
    a_push_by_hand_ends_where_its_folder_goes_before_a_run_is_complete,
}

const KEYS: &str = "batch.marker = \"DONE\"\nbatch.quiet = \"100ms\"\nbatch.max_wait = \"300ms\"";

fn held_back(report: &Report) -> usize {
    report.folders[0].held_back
}

/// What each commit has brought to the branch, the oldest first.
async fn brought(rig: &Rig) -> Vec<BTreeSet<String>> {
    let (mut before, mut brought) = (BTreeSet::new(), Vec::new());
    if rig.oracle().head().await.is_none() {
        return brought;
    }
    for commit in rig.oracle().commits().await {
        let now: BTreeSet<_> = rig.oracle().tree(&commit.id).await.into_keys().collect();
        let new: BTreeSet<_> = now.difference(&before).cloned().collect();
        if !new.is_empty() {
            brought.push(new);
        }
        before = now;
    }
    brought
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(ToString::to_string).collect()
}

async fn a_run_is_committed_whole_when_its_marker_appears(site: &Arc<Site>) {
    let mut rig = Rig::new(site, KEYS);
    rig.start();
    rig.assert_idle().await;
    for path in ["one/a", "one/deep/b", "one/c", "two/a"] {
        rig.write(path, path);
    }
    let report = rig.until_status("they wait for their runs", |report| held_back(report) == 4).await;
    assert_eq!(report.folders[0].waiting, 0);
    let path = rig.folder.join("one/deep/b");
    let why = rig.run(&["why".as_ref(), path.as_os_str()]).await;
    assert!(why.out.contains("It waits for its run to be finished: by a file DONE"), "{why:?}");
    let status = rig.run(&["status".as_ref()]).await;
    assert!(status.out.contains("4 files wait until a file DONE finishes the run"), "{status:?}");
    let flushed = rig.run(&["flush".as_ref()]).await;
    assert_eq!(flushed.code, Some(0), "what waits for its run is not waited for: {flushed:?}");
    let verified = rig.run(&["verify".as_ref()]).await;
    assert!(verified.out.contains("4 not compared: waiting until their run is finished"), "{verified:?}");
    assert!(brought(&rig).await.is_empty(), "nothing of a run goes before its end");

    rig.write("one/DONE", "");
    rig.until_status("one run is there", |report| report.folders[0].files == 4 && held_back(report) == 1)
        .await;
    assert_eq!(brought(&rig).await, [set(&["one/a", "one/deep/b", "one/c", "one/DONE"])]);
    rig.write("one/late", "it goes by itself");
    rig.until_status("it is there", |report| report.folders[0].files == 5).await;
    rig.write("two/DONE", "");
    rig.assert_all_holds().await;
    assert_eq!(brought(&rig).await[1..], [set(&["one/late"]), set(&["two/a", "two/DONE"])]);
    rig.assert_a_restart_changes_nothing().await;
}

/// Reading takes longer than a batch waits, files go on to be written after the marker, and two runs end at once.
async fn a_run_that_takes_longer_than_a_batch_may_wait_is_one_commit(site: &Arc<Site>) {
    let mut rig = Rig::new(site, KEYS);
    rig.start();
    rig.assert_idle().await;
    let large = vec![7; 4 << 20];
    for run in ["one", "two"] {
        for n in 0..40_u8 {
            rig.write(&format!("{run}/{n:02}"), [run.as_bytes(), &[n], &large].concat());
        }
    }
    let writer = fs::File::options().append(true).open(rig.folder.join("one/07")).unwrap();
    rig.write("one/DONE", "");
    rig.write("two/DONE", "");
    rig.until_status("it is waited for the writer", |report| report.folders[0].busy > 0).await;
    rig.until_status("the other run is there", |report| report.folders[0].files == 41).await;
    assert!(brought(&rig).await.iter().flatten().all(|path| path.starts_with("two/")));
    for path in ["one/08", "one/DONE"] {
        let path = rig.folder.join(path);
        let why = rig.run(&["why".as_ref(), path.as_os_str()]).await;
        assert!(why.out.contains("waits for the rest of its run"), "{why:?}");
    }
    drop(writer);
    rig.assert_all_holds().await;
    let brought = brought(&rig).await;
    for run in ["one/", "two/"] {
        let of_run = |set: &&BTreeSet<String>| set.iter().any(|path| path.starts_with(run));
        let with: Vec<_> = brought.iter().filter(of_run).collect();
        assert_eq!(with.len(), 1, "{run} came in {} commits", with.len());
    }
    rig.stop().await;
}

/// Its program mends files of a run that it has called finished, and calls it finished once more.
async fn a_run_that_is_finished_again_before_its_batch_is_due_is_one_commit(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "batch.marker = \"DONE\"\nbatch.quiet = \"1h\"\nbatch.max_wait = \"1h\"");
    rig.start();
    rig.assert_idle().await;
    let mut finished = Vec::new();
    for length in [10_000, 1_000, 10] {
        let long = vec![b'x'; length];
        rig.write("run/DONE", format!("{length}"));
        rig.write(&format!("run/beside {length}"), "");
        rig.write("run/long", long);
        finished.extend(["run/DONE", "run/long"].map(str::to_owned));
        finished.push(format!("run/beside {length}"));
        for path in &finished {
            rig.until_why(path, "waits for its commit").await;
        }
    }
    let flushed = rig.run(&["flush".as_ref()]).await;
    assert_eq!(flushed.code, Some(0), "{flushed:?}");
    rig.assert_all_holds().await;
    assert_eq!(brought(&rig).await, [finished.into_iter().collect()]);
    rig.stop().await;
}

/// A program that goes on to write a log into the directory of a run that it calls finished.
async fn a_log_that_never_ends_keeps_no_run_from_the_branch(site: &Arc<Site>) {
    let mut rig = Rig::new(site, &format!("{KEYS}\nsettle.max_wait = \"1s\""));
    for path in ["one/a", "one/DONE", "two/a", "two/DONE"] {
        rig.write(path, path);
    }
    // So long that it is written to whenever it is read.
    rig.write("one/log", vec![b'l'; 8 << 20]);
    let mut log = fs::File::options().append(true).open(rig.folder.join("one/log")).unwrap();
    let writer = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        loop {
            pace.tick().await;
            log.write_all(b"on and on\n").unwrap();
        }
    });
    rig.start();
    rig.until_status("both runs are there", |report| report.folders[0].files == 5).await;
    let brought = brought(&rig).await;
    for run in ["one", "two"] {
        let marker = format!("{run}/DONE");
        let with = brought.iter().find(|paths| paths.contains(&marker)).unwrap();
        assert!(with.contains(&format!("{run}/a")), "{brought:?}");
    }
    assert!(brought.iter().any(|paths| paths.is_superset(&set(&["one/DONE", "one/log"]))), "{brought:?}");
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    rig.settled().await;
    // It may be committed as it was at any moment.
    let log = fs::read(rig.folder.join("one/log")).unwrap();
    for commit in rig.oracle().commits().await {
        if let Some(part) = rig.oracle().tree(&commit.id).await.get("one/log") {
            rig.ledger.finished("one/log", &log[..usize::try_from(part.size).unwrap()]);
        }
    }
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_run_that_was_finished_while_nobody_looked_is_one_commit(site: &Arc<Site>) {
    let mut rig = Rig::new(site, KEYS);
    (0..30).for_each(|n| rig.write(&format!("run/{n}"), n.to_string()));
    rig.start();
    rig.until_status("they wait for their run", |report| held_back(report) == 30).await;
    rig.stop().await;
    rig.write("run/DONE", "");
    rig.start();
    rig.assert_all_holds().await;
    assert_eq!(brought(&rig).await.len(), 1);
    rig.stop().await;
}

async fn a_run_is_one_commit_whenever_the_process_ends(site: &Arc<Site>) {
    let mut rig = Rig::new(site, &format!("{KEYS}\ntransport = \"workspace\""));
    (0..30).for_each(|n| rig.write(&format!("run/{n}"), n.to_string()));
    rig.write("run/DONE", "");
    for point in ["form staged", "commit announced", "workspace merged", "batch proved"] {
        rig.set_env("OXEN_SYNC_KILL_AT", point);
        rig.start();
        assert!(rig.ended().await.signal().is_some(), "{point}");
    }
    rig.unset_env("OXEN_SYNC_KILL_AT");
    rig.start();
    rig.assert_all_holds().await;
    let brought = brought(&rig).await;
    assert_eq!(brought.len(), 1, "{brought:?}\n{}", rig.log());
    rig.assert_a_restart_changes_nothing().await;
}

/// Who reads the branch takes a run with a marker for whole.
async fn a_marker_waits_for_what_changes_while_its_run_is_on_its_way(site: &Arc<Site>) {
    let mut rig = Rig::new(site, KEYS);
    let gate = site.gate();
    rig.start();
    rig.assert_idle().await;
    gate.fault(Rule::on(Op::OpenWorkspace, Action::Delay(Duration::from_secs(1))));
    ["run/DONE", "run/a", "run/deep/b"].into_iter().for_each(|path| rig.write(path, path));
    gate.until("the run sets out", |gate| gate.faults_left() == 0).await;
    rig.write("run/deep/b", "written on, after the marker");
    rig.assert_all_holds().await;
    let brought = brought(&rig).await;
    assert!(brought.last().unwrap().contains("run/DONE"), "something came after it: {brought:?}");
    rig.assert_a_restart_changes_nothing().await;
}

/// Also where a push by hand finds them all at once, and where one that is not complete stands before them.
async fn many_runs_that_are_together_larger_than_a_batch_are_one_commit_each_at_most(site: &Arc<Site>) {
    for is_service in [false, true] {
        let mut rig = Rig::new(site, &format!("{KEYS}\nbatch.max_files = 10"));
        let runs: Vec<_> = (0..12).map(|run| format!("run {run:02}")).collect();
        for run in &runs {
            for file in ["a", "b", "deep/c", "DONE"] {
                rig.write(&format!("{run}/{file}"), format!("{run} {file}"));
            }
        }
        if is_service {
            let writer = fs::File::options().append(true).open(rig.folder.join("run 00/a")).unwrap();
            rig.start();
            let all_but_one = |report: &Report| report.folders[0].files == 11 * 4;
            rig.until_status("the others are there", all_but_one).await;
            drop(writer);
            rig.assert_all_holds().await;
            rig.stop().await;
        } else {
            let pushed = rig.push().await;
            assert_eq!(pushed.code, Some(0), "{pushed:?}");
        }
        let brought = brought(&rig).await;
        for run in &runs {
            let with = brought.iter().filter(|paths| paths.iter().any(|path| path.starts_with(run)));
            assert_eq!(with.count(), 1, "{run}, a service: {is_service}: {brought:?}");
        }
        assert!(brought.len() <= 8, "a commit has room for two of them: {brought:?}");
    }
}

async fn a_run_that_is_larger_than_a_batch_has_its_marker_in_the_last(site: &Arc<Site>) {
    let mut rig = Rig::new(site, &format!("{KEYS}\nbatch.max_files = 10"));
    (0..35).for_each(|n| rig.write(&format!("run/{n}"), n.to_string()));
    rig.write("run/DONE", "");
    rig.start();
    rig.assert_all_holds().await;
    let brought = brought(&rig).await;
    assert!(brought.len() >= 4 && brought.last().unwrap().contains("run/DONE"), "{brought:?}\n{}", rig.log());
    rig.stop().await;
}

async fn a_directory_whose_marker_has_gone_holds_another_run(site: &Arc<Site>) {
    let mut rig = Rig::new(site, KEYS);
    rig.write("run/a", "1");
    rig.write("run/DONE", "");
    rig.start();
    rig.assert_all_holds().await;
    fs::remove_file(rig.folder.join("run/DONE")).unwrap();
    rig.until_status("its going is seen", |report| report.folders[0].files == 1).await;
    rig.write("run/b", "2");
    rig.until_status("it is of another run", |report| held_back(report) == 1).await;
    rig.write("run/DONE", "again");
    rig.assert_all_holds().await;
    assert_eq!(brought(&rig).await, [set(&["run/a", "run/DONE"]), set(&["run/b"])]);
    rig.stop().await;
}

async fn a_push_by_hand_takes_finished_runs_alone(site: &Arc<Site>) {
    let rig = Rig::new(site, KEYS);
    for path in ["one/a", "one/DONE", "two/a"] {
        rig.write(path, path);
    }
    let pushed = rig.push().await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    assert_eq!(brought(&rig).await, [set(&["one/a", "one/DONE"])]);
}

async fn a_push_by_hand_ends_where_its_folder_goes_before_a_run_is_complete(site: &Arc<Site>) {
    let rig = Rig::new(site, &format!("{KEYS}\nsettle.max_wait = \"5m\""));
    ["one/a", "one/b", "one/DONE"].into_iter().for_each(|path| rig.write(path, path));
    let _writer = fs::File::options().append(true).open(rig.folder.join("one/b")).unwrap();
    let goes = async {
        // Part of the run is on its way by then; the run itself waits for its writer.
        tokio::time::sleep(Duration::from_secs(2)).await;
        fs::rename(&rig.folder, rig.dir().join("moved away")).unwrap();
    };
    let (pushed, ()) = tokio::join!(rig.push(), goes);
    assert_eq!(pushed.code, Some(1), "{pushed:?}");
    assert!(pushed.out.contains("is gone or has been replaced"), "{pushed:?}");
}
