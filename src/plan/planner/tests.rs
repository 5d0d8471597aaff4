use super::*;
use crate::content::{Digests, Signature};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

const LIMITS: BatchLimits = BatchLimits {
    quiet: Duration::from_secs(1),
    max_wait: Duration::from_secs(10),
    max_files: 5,
    max_bytes: 100,
};

pub(in crate::plan) fn put(path: &str, size: u64) -> Change {
    Change {
        path: LocalPath::new(Path::new(path)).unwrap(),
        place: PlaceKey::default(),
        kind: ChangeKind::Put {
            signature: Signature { size, mtime_ns: 0, ctime_ns: 0, inode: 0 },
            digests: Digests { sha256: Some([0; 32]), xxh3: u128::from(size) },
            racy: false,
        },
    }
}

pub(in crate::plan) fn remove(path: &str) -> Change {
    Change { kind: ChangeKind::Remove, ..put(path, 0) }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

#[test]
fn a_batch_is_due_when_nothing_more_comes_or_the_oldest_waited_long_enough() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    assert_eq!(planner.due_at(), None);
    planner.add(put("a", 1), start);
    planner.add(put("b", 1), start + seconds(0.9));
    assert_eq!(planner.take_due(start + seconds(1.8)), None);
    assert_eq!(planner.take_due(start + seconds(1.9)).unwrap().len(), 2);
    for n in 0..100 {
        planner.add(put("c", 1), start + seconds(20.0 + f64::from(n) * 0.1));
    }
    assert_eq!(planner.due_at(), Some(start + seconds(30.0)));
}

#[test]
fn a_full_batch_is_due_at_once() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    planner.add(put("large", 1000), start);
    planner.add(put("a", 1), start);
    assert_eq!(planner.take_due(start), Some(vec![put("a", 1)]));
    assert_eq!(planner.take_due(start), Some(vec![put("large", 1000)]), "alone, whatever its size");
    assert_eq!((planner.bytes(), planner.is_empty()), (0, true));
}

#[test]
fn removals_that_were_let_go_join_the_batch_that_waits() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    planner.add(put("new/a", 1), start);
    assert_eq!(planner.due_with(Some(start + seconds(1.5))), Some(start + seconds(1.5)));
    assert_eq!(planner.due_with(Some(start + seconds(5.0))), planner.due_at(), "nothing waits for long");
    let path = |path| LocalPath::new(Path::new(path)).unwrap();
    planner.let_go([path("old/a"), path("new/a")], (start, start + seconds(0.5)));
    assert_eq!(planner.due_at(), Some(start + seconds(1.5)));
    let batch = planner.take_due(start + seconds(1.5)).unwrap();
    assert_eq!(batch, [put("new/a", 1), remove("old/a")], "a file that is there again is not removed");
    planner.let_go([path("b")], (start, start + seconds(0.5)));
    assert_eq!(planner.take_due(start + seconds(1.5)), Some(vec![remove("b")]), "it has waited already");
}

#[test]
fn nothing_waits_for_ever_behind_what_is_new_all_the_time() {
    let start = Instant::now();
    for last in [remove("z"), put("z", 90)] {
        let mut planner = Planner::new(LIMITS, Marker::default());
        planner.add(last.clone(), start);
        let mut new = (0..).map(|number| put(&format!("a{number:04}"), 60));
        let batches = (0..20).find(|_| {
            while !planner.is_full() {
                planner.add(new.next().unwrap(), start);
            }
            planner.take(start).unwrap().contains(&last)
        });
        assert!(batches.is_some_and(|batches| batches < 5), "{batches:?}");
    }
}

#[test]
fn what_came_to_nothing_is_tried_again_before_what_came_meanwhile() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    let all = |name: char| (0..5).map(move |number| put(&format!("{name}{number}"), 1));
    all('m').for_each(|change| planner.add(change, start));
    let failed = planner.take(start).unwrap();
    for name in ['a', 'z'] {
        all(name).for_each(|change| planner.add(change, start));
        planner.put_back(failed.clone(), start);
        assert_eq!(planner.take(start).unwrap(), failed);
    }
}

#[test]
fn removals_have_some_room_however_full_it_is() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    let path = |number: u64| LocalPath::new(Path::new(&format!("z{number}"))).unwrap();
    assert_eq!(planner.room_for_removals(), 6);
    let (mut gone, mut number) = (0, 0);
    for _ in 0..20 {
        while !planner.is_full() {
            number += 1;
            planner.add(put(&format!("a{number:04}"), 1), start);
        }
        let room = planner.room_for_removals() as u64;
        planner.let_go((gone..gone + room).map(path), (start, start));
        gone += room;
        assert_eq!((planner.len(), planner.room_for_removals()), (6, 0), "and no more than that");
        assert_eq!(planner.take(start).unwrap().len(), 5);
    }
    assert!(gone >= 15, "{gone} of 20 batches");
}

#[test]
fn the_age_of_the_oldest_change_outlives_failed_tries_and_ends_when_it_lands() {
    let start = Instant::now();
    let at = |s: f64| start + seconds(s);
    let mut planner = Planner::new(LIMITS, Marker::default());
    assert_eq!(planner.waiting_since(), None);
    for number in 0..6 {
        planner.add_seen(put(&format!("m{number}"), 1), None, at(f64::from(number)), at(9.0));
    }
    let batch = planner.take(at(10.0)).unwrap();
    assert_eq!((batch.len(), planner.waiting_since()), (5, Some(start)));
    planner.put_back(batch, at(20.0));
    planner.landed();
    assert_eq!(planner.waiting_since(), Some(start), "it came to nothing");
    planner.add_seen(put("m5", 2), None, at(30.0), at(30.0));
    planner.take(at(40.0));
    planner.landed();
    assert_eq!(planner.waiting_since(), Some(at(5.0)), "a later change of a path makes it no younger");
    planner.take(at(50.0));
    planner.landed();
    assert_eq!(planner.waiting_since(), None);
}

#[test]
fn a_file_in_a_directorys_place_comes_after_the_directory_is_cleared() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    for change in [put("t", 1), remove("t/x"), put("u", 1)] {
        planner.add(change, start);
    }
    assert_eq!(planner.take(start), Some(vec![remove("t/x"), put("u", 1)]));
    assert_eq!(planner.take(start), Some(vec![put("t", 1)]));
}

#[test]
fn what_is_marked_is_due_at_once_and_what_comes_later_is_not() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    for name in ["a", "b", "c", "d"] {
        planner.add(put(name, 40), start);
    }
    let mark = planner.mark();
    assert_eq!(planner.due_at(), Some(start));
    planner.add(put("e", 1), start);
    let first = planner.take(start).unwrap();
    assert!(!planner.is_past(mark), "two of them had no room");
    planner.put_back(first[..1].iter().cloned(), start);
    while !planner.is_past(mark) {
        assert!(planner.take_due(start).is_some());
    }
    planner.add(put("f", 1), start);
    assert_eq!(planner.due_at(), Some(start + LIMITS.quiet), "the hurry is over");
    let nothing = planner.mark();
    assert!(!planner.is_past(nothing));
    planner.take(start);
    assert!(planner.is_past(nothing));
}

#[test]
fn files_that_set_out_early_belong_to_the_batch_that_is_due_later() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    for change in [put("a", 40), put("b", 30), put("large", 80), remove("c")] {
        planner.add(change, start);
    }
    assert_eq!(planner.take_early(50), [put("a", 40), put("b", 30)]);
    assert_eq!((planner.len(), planner.puts().count(), planner.bytes()), (2, 3, 80));
    assert!(planner.is_full(), "it holds more bytes than a batch may");
    assert_eq!(planner.take(start), Some(vec![remove("c")]), "the large one has no room beside them");
    assert_eq!(planner.release_early_but(&[]), [put("a", 40), put("b", 30)]);
    planner.add(put("d", 30), start);
    assert_eq!(planner.take_early(50), [], "nothing passes what was left");
    assert_eq!(planner.take(start), Some(vec![put("large", 80)]));
    planner.add(put("e", 10), start + seconds(5.0));
    assert_eq!(planner.take_early(50), [], "nor here");
    planner.take(start);
    planner.add(put("f", 10), start + seconds(9.0));
    assert_eq!(planner.take_early(50), [put("f", 10)]);
    assert_eq!(planner.due_at(), Some(start + seconds(10.0)), "although nothing else waits");
    assert_eq!(planner.take(start), None);
    planner.put_back([put("f", 10)], start);
    assert_eq!(planner.release_early_but(&[]), [put("f", 10)]);
    assert_eq!(planner.take(start), Some(vec![put("f", 10)]));
}

#[test]
fn what_changes_after_it_set_out_is_in_the_batch_once() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::default());
    for path in ["a", "b"] {
        planner.add(put(path, 1), start);
    }
    assert_eq!(planner.take_early(50).len(), 2);
    for change in [put("a", 2), put("b/c", 2), put("a2", 2)] {
        planner.add(change, start);
    }
    assert_eq!(planner.take_early(50), [put("a2", 2)], "the others stand where one set out");
    let batch = planner.take(start).unwrap();
    assert_eq!(batch, [put("a", 2), put("b/c", 2)]);
    assert_eq!(planner.release_early_but(&batch), [put("a2", 2), put("b", 1)]);
    planner.add(put("d/e", 1), start);
    assert_eq!(planner.take_early(50), [put("d/e", 1)]);
    planner.add(put("d", 1), start);
    assert_eq!(planner.take_early(50), []);
}

#[test]
fn a_marker_comes_with_the_last_of_its_run() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::new(Some("DONE")));
    for change in [put("r/DONE", 1), put("r/a", 60), put("r/b", 30), put("r/c", 60), put("r/d/DONE", 1)] {
        planner.add(change, start);
    }
    assert_eq!(planner.take(start), Some(vec![put("r/a", 60), put("r/b", 30)]));
    assert_eq!(planner.take_markers_of(&put("s/a", 1).path), []);
    assert_eq!(planner.take(start), Some(vec![put("r/DONE", 1), put("r/c", 60), put("r/d/DONE", 1)]));
    planner.add(put("r/DONE", 1), start);
    assert_eq!(planner.take_early(50), [], "no marker sets out early");
    assert_eq!(planner.take_markers_of(&put("r/a", 1).path), [put("r/DONE", 1).path]);
    assert!(planner.is_empty() && planner.bytes() == 0);
}

fn of_run(planner: &mut Planner, change: Change, now: Instant) {
    let run = change.path.parent().map(Arc::new);
    planner.add_seen(change, run, now, now);
}

#[test]
fn nothing_is_due_of_a_run_before_all_of_it_has_come() {
    let start = Instant::now();
    let at = |s: f64| start + seconds(s);
    let mut planner = Planner::new(LIMITS, Marker::new(Some("DONE")));
    of_run(&mut planner, put("one/a", 1), start);
    assert_eq!(planner.due_at(), None);
    assert!(planner.waits_for_its_run(&put("one/a", 1).path));
    planner.add(put("alone", 1), at(9.0));
    assert_eq!(planner.due_at(), Some(at(10.0)));
    assert_eq!(planner.take_early(50), [put("alone", 1)]);
    assert_eq!(planner.release_early_but(&[]), [put("alone", 1)]);
    assert_eq!(planner.take(at(10.0)), None);
    of_run(&mut planner, put("two/a", 1), at(11.0));
    of_run(&mut planner, put("two/DONE", 0), at(12.0));
    assert_eq!(planner.due_at(), Some(at(13.0)));
    assert_eq!(planner.take(at(13.0)), Some(vec![put("two/DONE", 0), put("two/a", 1)]));
    assert_eq!(planner.due_at(), None);
    planner.close_runs(at(20.0));
    assert_eq!(planner.take_due(at(20.0)), Some(vec![put("one/a", 1)]), "no marker comes any more");
    assert!(planner.is_empty() && planner.open.since().is_none());
}

#[test]
fn there_is_room_for_the_rest_of_runs_that_come_together() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::new(Some("DONE")));
    let runs: Vec<_> = (0..9).map(|number| format!("{number}")).collect();
    for part in ["a", "b", "c"] {
        for run in &runs {
            of_run(&mut planner, put(&format!("{run}/{part}"), 20), start);
            assert!(!planner.is_full());
        }
    }
    planner.add(put("0/a", 21), start);
    assert_eq!((planner.open.total().files, planner.due_at()), (27, None));
    for run in &runs {
        of_run(&mut planner, put(&format!("{run}/DONE"), 0), start);
        assert!(planner.is_full() || run == "0", "a batch holds one");
    }
    for run in &runs {
        let batch = planner.take_due(start).or_else(|| planner.take(start)).unwrap();
        assert!(batch.len() == 4 && batch.iter().all(|change| change.path.to_string().starts_with(run)));
    }
    for part in 0..5 {
        of_run(&mut planner, put(&format!("large/{part}"), 0), start);
    }
    assert_eq!(planner.take_due(start).map(|batch| batch.len()), Some(5), "it will not fit anyway");
    assert!(planner.is_empty() && !planner.is_full() && planner.open.total() == Sum::default());
}

#[test]
fn what_comes_late_to_a_run_that_waits_goes_with_it() {
    let start = Instant::now();
    let mut planner = Planner::new(LIMITS, Marker::new(Some("DONE")));
    planner.put_back([put("one/failed", 1)], start);
    for change in [put("one/a", 1), put("one/log", 1), put("one/DONE", 0)] {
        of_run(&mut planner, change, start);
    }
    planner.add(put("one/log", 2), start);
    planner.add(put("one/late", 1), start);
    planner.add(put("z", 1), start);
    assert!(planner.is_full() && planner.open.since().is_none());
    let run = ["one/DONE", "one/a", "one/failed", "one/late", "one/log"];
    let batch = planner.take(start).unwrap();
    let paths: Vec<_> = batch.iter().map(|change| change.path.to_string()).collect();
    assert_eq!(paths, run);
    assert_eq!(planner.take(start), Some(vec![put("z", 1)]));
}

proptest! {
    /// As whoever receives changes does it: none while it is full, and a batch whenever one is due.
    #[test]
    fn a_run_is_in_one_batch_unless_it_is_larger_than_one(
        runs in prop::collection::vec((prop::collection::vec(0..40_u64, 0..8), any::<bool>(), 0..3_u64), 1..12)
    ) {
        let marker = Marker::new(Some("DONE"));
        let mut planner = Planner::new(LIMITS, marker.clone());
        let (mut now, mut batches, mut wanted) = (Instant::now(), Vec::new(), 0);
        for (number, (sizes, is_run, pause)) in runs.iter().enumerate() {
            let parts = sizes.iter().enumerate().map(|(part, size)| put(&format!("{number:02}/{part}"), *size));
            let marker = is_run.then(|| put(&format!("{number:02}/DONE"), 0));
            for change in parts.chain(marker) {
                while planner.is_full() {
                    batches.extend(planner.take_due(now));
                }
                if *is_run { of_run(&mut planner, change, now) } else { planner.add(change, now) }
                wanted += 1;
            }
            now += seconds(*pause as f64);
            batches.extend(planner.take_due(now));
        }
        planner.close_runs(now);
        while !planner.is_empty() {
            let batch = planner.take(now);
            prop_assert!(batch.is_some(), "nothing comes of {:?}", planner);
            batches.extend(batch);
        }
        prop_assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), wanted);
        for (number, (sizes, ..)) in runs.iter().enumerate().filter(|(_, (_, is_run, _))| *is_run) {
            let dir = LocalPath::new(Path::new(&format!("{number:02}"))).unwrap();
            let with = batches.iter().filter(|batch| batch.iter().any(|change| change.path.starts_with(&dir)));
            let with: Vec<_> = with.collect();
            if sizes.len() < LIMITS.max_files && sizes.iter().sum::<u64>() < LIMITS.max_bytes {
                prop_assert_eq!(with.len(), 1, "run {} of {:?}", number, sizes);
            }
            prop_assert!(with.last().unwrap().iter().any(|change| marker.is(change) && change.path.starts_with(&dir)));
        }
        prop_assert!(planner.open.since().is_none() && planner.since.is_none() && planner.bytes() == 0);
    }

    /// Runs may be within runs, be finished again while they wait, and lose their markers.
    #[test]
    fn what_waits_of_open_runs_is_counted_right_whatever_comes(
        steps in prop::collection::vec((0..12_u8, "[ab](/[ab]){0,2}(/b)?", 0..80_u64, "[ab](/[ab])?"), 1..80)
    ) {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS, Marker::new(Some("b")));
        for (what, path, size, run) in steps {
            match what {
                0 => drop(planner.take(start)),
                1 => drop(planner.take_markers_of(&put(&path, 0).path)),
                2 => planner.put_back([put(&path, size)], start),
                3 => planner.close_runs(start),
                4 => planner.add(remove(&path), start),
                5 => planner.let_go([put(&path, 0).path], (start, start)),
                6 => {
                    planner.take_early(size);
                    planner.put_back_early(start);
                }
                7 | 8 => planner.add(put(&path, size), start),
                _ => {
                    let run = put(&run, 0).path;
                    let run = Some(run).filter(|run| path.starts_with(&format!("{run}/"))).map(Arc::new);
                    planner.add_seen(put(&path, size), run, start, start);
                }
            }
            let mut open = BTreeMap::<_, Sum>::new();
            for pending in planner.pending.values().filter(|pending| planner.is_open(pending)) {
                *open.entry(pending.run.clone()).or_default() += Sum::of(&pending.change);
            }
            let mut total = Sum::default();
            open.values().for_each(|sum| total += *sum);
            let is_full = total.files >= 4_096 || open.values().any(|sum| sum.fills(&LIMITS));
            prop_assert_eq!((planner.open.total(), planner.open.is_full()), (total, is_full));
            prop_assert_eq!(planner.open.since().is_some(), !open.is_empty());
            let waits = planner.pending.values().any(|pending| !planner.is_open(pending));
            prop_assert!(planner.since.is_some() || !waits, "{:?} is never due", planner);
        }
    }

    #[test]
    fn no_marker_passes_anything_of_its_run_and_none_waits_for_ever(
        steps in prop::collection::vec(("[ab](/[ab]){0,2}", any::<bool>(), 0..4_u8, 0..120_u64), 1..60)
    ) {
        let start = Instant::now();
        let marker = Marker::new(Some("b"));
        let limits = BatchLimits { max_files: 2, ..LIMITS };
        let mut planner = Planner::new(limits, marker.clone());
        let check = |batch: &[Change], planner: &Planner| {
            planner.pending.keys().all(|left| !batch.iter().any(|change| marker.finishes(change, left)))
        };
        for (path, is_put, what, size) in steps {
            planner.add(if is_put { put(&path, size) } else { remove(&path) }, start);
            if what == 0 {
                let batch = planner.take(start);
                prop_assert!(batch.is_some_and(|batch| check(&batch, &planner)));
            }
        }
        while !planner.is_empty() {
            let batch = planner.take(start);
            prop_assert!(batch.is_some_and(|batch| check(&batch, &planner)));
        }
    }

    #[test]
    fn every_path_comes_out_once_with_its_latest_change(
        steps in prop::collection::vec((0..7_u8, "[ab](/[ab]){0,2}", 0..80_u64), 1..80)
    ) {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS, Marker::default());
        let mut wanted = BTreeMap::new();
        let mut got = BTreeMap::new();
        for (what, path, size) in steps {
            if what == 6 {
                for change in planner.take_early(size) {
                    prop_assert_eq!(wanted.remove(&change.path), Some(change.clone()));
                }
                continue;
            }
            if what == 0 {
                let early = planner.early.len();
                let batch = planner.take(start);
                prop_assert!(early + batch.as_ref().map_or(0, Vec::len) <= LIMITS.max_files);
                prop_assert_eq!(planner.release_early_but(&[]).len(), early);
                for change in batch.into_iter().flatten() {
                    prop_assert_eq!(wanted.remove(&change.path), Some(change.clone()));
                    got.insert(change.path.clone(), change);
                }
                continue;
            }
            let change = if what == 1 { remove(&path) } else { put(&path, size) };
            wanted.insert(change.path.clone(), change.clone());
            planner.add(change, start);
        }
        planner.release_early_but(&[]);
        while let Some(batch) = planner.take(start) {
            prop_assert!(batch.len() <= LIMITS.max_files);
            let bytes: u64 = batch.iter().map(size_of).sum();
            prop_assert!(bytes <= LIMITS.max_bytes || batch.len() == 1);
            for change in batch {
                prop_assert_eq!(wanted.remove(&change.path), Some(change));
            }
        }
        prop_assert!(wanted.is_empty() && planner.is_empty() && planner.bytes() == 0);
    }
}
