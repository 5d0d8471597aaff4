use super::*;
use proptest::prelude::*;
use std::path::Path;

const LIMITS: SettleLimits =
    SettleLimits { quiet: Duration::from_secs(2), max_wait: Duration::from_secs(60) };

fn local(path: &str) -> LocalPath {
    LocalPath::new(Path::new(path)).unwrap()
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

#[test]
fn a_touched_file_is_due_when_it_was_quiet_long_enough() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    stage.touch(&local("a"), None, start);
    stage.touch(&local("a"), None, start + seconds(1.5));
    assert!(stage.take_due(start + seconds(2.0), 9).is_empty());
    assert_eq!(stage.next_due(), Some(start + seconds(3.5)));
    let due = stage.take_due(start + seconds(3.5), 9);
    assert_eq!(due, [Due { path: local("a"), seen: None, overdue: false }]);
    assert!(stage.settled(&local("a"), start + seconds(3.6)));
    assert!(stage.is_empty());
}

#[test]
fn what_waits_tells_how_far_it_is() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    stage.touch(&local("a"), None, start);
    stage.touch(&local("a"), None, start + seconds(1.0));
    let a = stage.settling(&local("a"), start + seconds(1.5)).unwrap();
    assert_eq!((a.still_for, a.due_in), (seconds(0.5), seconds(1.5)));
    assert!(!a.is_busy && !a.is_read && !a.is_overdue);
    assert_eq!(stage.settling(&local("b"), start), None);
    assert!(stage.has_from(start), "a later touch does not make it younger");
    stage.take_due(start + seconds(3.0), 9);
    assert!(stage.settling(&local("a"), start + seconds(3.0)).unwrap().is_read);
    stage.moving(&local("a"), None, start + seconds(3.0));
    assert!(stage.settling(&local("a"), start + seconds(61.0)).unwrap().is_overdue);
    stage.settled(&local("a"), start + seconds(61.0));
    stage.touch(&local("a"), None, start + seconds(62.0));
    assert!(!stage.has_from(start + seconds(61.0)), "one that came anew is another");
}

#[test]
fn a_file_that_never_gets_quiet_is_taken_at_the_maximum_wait() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let mut at = start;
    while at < start + LIMITS.max_wait {
        stage.touch(&local("log"), None, at);
        assert!(stage.take_due(at, 9).is_empty());
        at += seconds(0.5);
    }
    stage.touch(&local("log"), None, at);
    let due = stage.take_due(at, 9);
    assert!(due[0].overdue);
    stage.moving(&local("log"), None, at);
    assert_eq!((stage.busy(), stage.len()), (1, 1));
    assert!(stage.take_due(at + seconds(1.9), 9).is_empty());
    assert!(stage.take_due(at + seconds(2.0), 9)[0].overdue, "it stays overdue until it is taken");
}

#[test]
fn a_file_that_will_not_hold_still_is_read_ever_more_rarely() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let (mut now, mut looks) = (start, Vec::new());
    while now < start + seconds(600.0) {
        stage.touch(&local("log"), None, now);
        for due in stage.take_due(now, 9) {
            looks.push(now.duration_since(start).as_secs());
            stage.moving(&due.path, None, now);
        }
        now += seconds(0.5);
    }
    assert_eq!(looks[..7], [60, 62, 66, 74, 90, 122, 182]);
    stage.touch(&local("log"), None, now);
    assert_eq!(
        stage.next_due(),
        Some(now + seconds(2.0)),
        "once quiet, it is looked at as soon as any other"
    );
}

#[test]
fn a_quiet_file_that_waits_for_us_is_not_overdue() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    stage.touch(&local("a"), None, start);
    stage.touch(&local("b"), None, start);
    let late = start + LIMITS.max_wait * 3;
    assert!(!stage.take_due(late, 1)[0].overdue);
    stage.touch(&local("b"), None, late);
    assert!(!stage.take_due(late + seconds(2.0), 1)[0].overdue, "nor is one that is touched meanwhile");
}

#[test]
fn the_age_of_a_path_counts_from_its_first_touch() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    stage.touch(&local("a"), None, start);
    stage.touch(&local("b"), None, start + seconds(1.0));
    stage.touch(&local("a"), None, start + seconds(1.5));
    assert_eq!(stage.waiting_since(), Some(start));
    assert_eq!(stage.take_due(start + seconds(3.5), 9).len(), 2);
    assert_eq!(stage.since(&local("a")), Some(start), "also while it is examined");
    assert!(stage.settled(&local("a"), start + seconds(4.0)));
    assert_eq!((stage.waiting_since(), stage.since(&local("a"))), (Some(start + seconds(1.0)), None));
    assert!(stage.settled(&local("b"), start + seconds(4.0)));
    assert_eq!(stage.waiting_since(), None);
}

#[test]
fn a_file_that_we_read_for_long_is_not_overdue_for_that() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    stage.touch(&local("huge"), None, start);
    assert!(!stage.take_due(start + seconds(2.0), 9)[0].overdue);
    let read = start + LIMITS.max_wait * 2;
    stage.moving(&local("huge"), None, read);
    assert!(!stage.take_due(read + seconds(2.0), 9)[0].overdue);
}

#[test]
fn what_a_scan_finds_during_an_examination_voids_it() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
    stage.touch(&local("a"), None, start);
    assert_eq!(stage.take_due(start + seconds(2.0), 9).len(), 1);
    stage.found(&local("a"), Some(signature), start + seconds(2.1));
    assert!(!stage.settled(&local("a"), start + seconds(2.2)));
}

#[test]
fn a_scan_that_finds_a_file_as_it_is_examined_does_not_void_that() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let signature = Some(Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 });
    stage.touch(&local("a"), signature, start);
    assert_eq!(stage.take_due(start + seconds(2.0), 9).len(), 1);
    // Else a file that takes longer to read than everything takes to scan would never be taken in a flood.
    stage.found(&local("a"), signature, start + seconds(2.1));
    assert!(stage.settled(&local("a"), start + seconds(2.2)));
}

#[test]
fn a_snapshot_holds_although_its_file_is_touched_meanwhile() {
    let mut now = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let mut snapshots = Vec::new();
    stage.touch(&local("log"), None, now);
    for _ in 0..1_000 {
        now += seconds(0.5);
        stage.touch(&local("log"), None, now);
        for due in stage.take_due(now, 9) {
            // Reading it takes longer than the writer pauses.
            now += seconds(3.0);
            stage.touch(&due.path, None, now);
            snapshots.push((due.overdue, stage.settled(&due.path, now)));
        }
    }
    assert!(snapshots.len() > 3 && snapshots.len() < 20, "one each minute: {snapshots:?}");
    assert!(snapshots.iter().all(|snapshot| *snapshot == (true, true)), "{snapshots:?}");
}

#[test]
fn what_was_taken_in_motion_or_failed_past_the_maximum_wait_is_not_hoped_for() {
    let start = Instant::now();
    let (late, dir) = (start + LIMITS.max_wait, local("run"));
    let mut stage = SettleStage::new(LIMITS);
    for second in 0..=LIMITS.max_wait.as_secs() {
        for path in ["run/log", "run/rewritten", "run/a", "other/a"] {
            stage.touch(&local(path), None, start + Duration::from_secs(second));
        }
    }
    assert_eq!(stage.take_due(late, 9).iter().filter(|due| due.overdue).count(), 4);
    stage.touch(&local("run/log"), None, late);
    assert!(stage.settled(&local("run/log"), late), "its snapshot holds");
    stage.moving(&local("run/rewritten"), None, late);
    assert!(stage.has_hope_below(&dir, start), "run/a is still read");
    stage.settled(&local("run/a"), late);
    assert!(stage.has_below(&dir) && !stage.has_hope_below(&dir, start));
    assert!(stage.has_hope_below(&local("other"), start));
}

#[test]
fn a_touch_during_the_examination_voids_what_it_found() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    stage.touch(&local("a"), None, start);
    assert_eq!(stage.take_due(start + seconds(2.0), 9).len(), 1);
    stage.touch(&local("a"), None, start + seconds(2.1));
    assert!(!stage.settled(&local("a"), start + seconds(2.2)));
    assert_eq!(stage.take_due(start + seconds(4.2), 9).len(), 1);
    assert!(stage.settled(&local("a"), start + seconds(4.3)));
}

#[test]
fn a_later_look_at_the_same_file_does_not_make_it_wait_longer() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
    stage.found(&local("a"), Some(signature), start);
    stage.found(&local("a"), Some(signature), start + seconds(1.0));
    assert_eq!(stage.next_due(), Some(start + seconds(2.0)));
    stage.found(&local("a"), Some(Signature { size: 2, ..signature }), start + seconds(1.0));
    assert_eq!(stage.next_due(), Some(start + seconds(3.0)));
}

#[test]
fn a_file_that_is_known_to_be_at_rest_is_due_at_once_unless_it_waits_for_a_reason() {
    let start = Instant::now();
    let mut stage = SettleStage::new(LIMITS);
    let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
    stage.found_at_rest(&local("a"), signature, start);
    let due = stage.take_due(start, 9);
    assert_eq!(due, [Due { path: local("a"), seen: Some(signature), overdue: false }]);
    stage.touch(&local("b"), None, start);
    stage.found_at_rest(&local("b"), signature, start);
    assert_eq!(stage.next_due(), Some(start + seconds(2.0)), "an event spoke of it");
}

proptest! {
    #[test]
    fn what_is_counted_by_directories_is_what_lies_there(
        steps in prop::collection::vec(("[ab](/[ab]){0,3}", any::<bool>()), 1..60)
    ) {
        let start = Instant::now();
        let (mut plain, mut counting) = (SettleStage::new(LIMITS), SettleStage::new(LIMITS).by_dirs());
        for (path, is_touched) in steps {
            for stage in [&mut plain, &mut counting] {
                if is_touched {
                    stage.touch(&local(&path), None, start);
                } else {
                    stage.settled(&local(&path), start);
                }
            }
            for dir in ["", "a", "b", "a/a", "a/b", "b/a", "b/b", "a/b/a", "a/b/a/b"] {
                let dir = LocalPath::new(Path::new(dir)).unwrap();
                prop_assert_eq!(plain.has_below(&dir), counting.has_below(&dir), "{}", dir);
            }
        }
    }

    #[test]
    fn every_touched_path_is_looked_at_after_its_last_touch(
        steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..3000_u64), 1..120)
    ) {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let (mut now, mut out, mut fresh) = (start, Vec::new(), std::collections::HashSet::new());
        for (what, name, millis) in steps {
            let path = local(&name.to_string());
            now += Duration::from_millis(millis);
            match what {
                0 => { stage.touch(&path, None, now); fresh.insert(path); }
                1 => out.extend(stage.take_due(now, 2).into_iter().map(|due| due.path)),
                2 => if let Some(path) = out.pop()
                    && stage.settled(&path, now) { fresh.remove(&path); },
                _ => if let Some(path) = out.pop() { stage.moving(&path, None, now); },
            }
            prop_assert!(stage.by_due.len() + out.len() == stage.len());
            prop_assert!(stage.by_age.len() == stage.len() && stage.by_age.values().is_sorted());
        }
        for path in out { if stage.settled(&path, now) { fresh.remove(&path); } }
        for _ in 0..20 {
            now += LIMITS.max_wait;
            for due in stage.take_due(now, 99) {
                if stage.settled(&due.path, now) { fresh.remove(&due.path); }
            }
        }
        prop_assert!(fresh.is_empty() && stage.is_empty() && stage.busy() == 0);
    }
}
