use super::*;
use proptest::prelude::*;

const LIMITS: DeleteBrake = DeleteBrake { share_percent: 50, files: 10 };
const BATCH: BatchLimits = BatchLimits {
    quiet: Duration::from_secs(1),
    max_wait: Duration::from_secs(30),
    max_files: 5,
    max_bytes: 100,
};

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

fn brake(now: Instant) -> Brake {
    Brake::new(LIMITS, BATCH, false, now)
}

/// The judgement of removals that leave `left` of `before` files and are over.
fn judged(before: u64, left: u64) -> Judgement {
    let start = Instant::now();
    let mut brake = brake(start);
    brake.removed(before, start);
    let due = brake.due_at(Sight::Clear).unwrap();
    assert_eq!(due, start + BATCH.quiet);
    brake.judge(left, Sight::Clear, false, due)
}

#[test]
fn many_files_and_a_large_share_of_all_are_held() {
    let table = [
        (100, 0, Judgement::Hold),
        (100, 49, Judgement::Hold),
        (100, 50, Judgement::LetGo),
        (10, 0, Judgement::Hold),
        (9, 0, Judgement::LetGo),
        (11, 2, Judgement::LetGo),
        (0, 5, Judgement::LetGo),
    ];
    for (before, left, judgement) in table {
        assert_eq!(judged(before, left), judgement, "{left} of {before}");
    }
}

#[test]
fn a_share_of_all_holds_nothing() {
    let start = Instant::now();
    let limits = DeleteBrake { share_percent: 100, ..LIMITS };
    let mut brake = Brake::new(limits, BATCH, false, start);
    brake.removed(1000, start);
    assert_eq!(brake.judge(0, Sight::Clear, false, start + BATCH.quiet), Judgement::LetGo);
}

#[test]
fn what_goes_on_is_waited_for() {
    let start = Instant::now();
    let mut brake = brake(start);
    brake.removed(1000, start);
    // A look at everything takes a while; what it has not come to may be gone too.
    assert_eq!(brake.judge(950, Sight::Looking, false, start + seconds(40.0)), Judgement::Wait);
    assert_eq!(brake.due_at(Sight::Looking), None);
    // Removals follow each other.
    for n in 0..400 {
        let now = start + seconds(41.0 + f64::from(n) * 0.2);
        brake.removed(0, now);
        assert_ne!(brake.judge(700 - n as u64, Sight::Clear, false, now), Judgement::LetGo, "{n}");
    }
    let last = start + seconds(41.0 + 399.0 * 0.2);
    assert_eq!(brake.judge(301, Sight::Clear, false, last + BATCH.quiet), Judgement::Hold);
    assert!(brake.is_holding());
}

#[test]
fn nothing_is_judged_while_the_folder_cannot_be_used() {
    let start = Instant::now();
    let mut brake = brake(start);
    brake.removed(5, start);
    assert_eq!(brake.due_at(Sight::Blind), None);
}

#[test]
fn a_deletion_in_pieces_is_one() {
    let start = Instant::now();
    let mut brake = brake(start);
    let mut got = Vec::new();
    for (minute, left) in [(0, 80), (5, 60), (10, 40)] {
        let at = start + seconds(f64::from(minute) * 60.0);
        brake.removed(left + 20, at);
        got.push(brake.judge(left, Sight::Clear, false, at + BATCH.quiet));
    }
    assert_eq!(got, [Judgement::LetGo, Judgement::LetGo, Judgement::Hold]);
}

#[test]
fn a_deletion_in_pieces_is_one_across_lives() {
    let start = Instant::now();
    let (mut lately, mut got) = (Vec::new(), Vec::new());
    for (minute, left) in [(0, 80), (5, 60), (10, 40), (45, 20)] {
        let at = start + seconds(f64::from(minute) * 60.0);
        let mut brake = brake(at);
        brake.recall(lately.iter().map(|(then, before)| (at - *then, *before)), at);
        brake.removed(left + 20, at);
        got.push(brake.judge(left, Sight::Clear, false, at + BATCH.quiet));
        lately = brake.lately(at).into_iter().map(|(age, before)| (at - age, before)).collect();
    }
    use Judgement::{Hold, LetGo};
    assert_eq!(got, [LetGo, LetGo, Hold, LetGo]);
}

#[test]
fn what_was_removed_long_ago_does_not_count() {
    let start = Instant::now();
    let mut brake = brake(start);
    for (hour, left) in [(0, 60), (1, 40), (2, 25)] {
        let at = start + seconds(f64::from(hour) * 3600.0);
        brake.removed([100, 60, 40][hour as usize], at);
        assert_eq!(brake.judge(left, Sight::Clear, false, at + BATCH.quiet), Judgement::LetGo);
    }
}

#[test]
fn what_goes_bit_by_bit_all_day_is_not_one_deletion() {
    let start = Instant::now();
    let mut brake = brake(start);
    for step in 0..72_u32 {
        let (at, left) = (start + step * Duration::from_secs(20 * 60), 10_000 - 100 * u64::from(step + 1));
        brake.removed(left + 100, at);
        assert_eq!(brake.judge(left, Sight::Clear, false, at + BATCH.quiet), Judgement::LetGo, "{step}");
    }
}

#[test]
fn files_that_come_and_go_are_not_held() {
    let start = Instant::now();
    let mut brake = brake(start);
    let (mut let_go, mut waits) = (0, None);
    // One file comes and another goes, all the time: an hour long, 60 are here.
    for n in 0..3600 {
        let now = start + seconds(f64::from(n));
        brake.removed(60, now);
        if brake.due_at(Sight::Coming).unwrap() <= now {
            match brake.judge(60, Sight::Coming, false, now) {
                Judgement::LetGo => let_go += 1,
                Judgement::Hold | Judgement::HoldForNow => panic!("held after {n} s"),
                Judgement::Wait => {}
            }
            waits = None;
        } else {
            waits = waits.or(Some(now));
            assert!(now - waits.unwrap() <= BATCH.max_wait);
        }
    }
    assert!(let_go > 100);
}

#[test]
fn what_cannot_be_carried_out_is_judged_again_as_what_it_was() {
    let start = Instant::now();
    let mut brake = brake(start);
    brake.removed(100, start);
    let wait = brake.waiting().unwrap();
    let judged_at = start + BATCH.quiet;
    assert_eq!(brake.judge(60, Sight::Clear, false, judged_at), Judgement::LetGo);
    brake.again(wait, judged_at);
    // Files have come meanwhile; they were not there before.
    brake.removed(1000, judged_at);
    assert_eq!(brake.waiting().unwrap().span(), (start, judged_at));
    let due = brake.due_at(Sight::Clear).unwrap();
    assert_eq!(due, judged_at + BATCH.quiet);
    assert_eq!(brake.judge(50, Sight::Clear, false, due), Judgement::LetGo);
}

#[test]
fn what_is_held_is_looked_at_until_it_is_over() {
    let start = Instant::now();
    let mut brake = Brake::new(LIMITS, BATCH, true, start);
    assert_eq!(brake.due_at(Sight::Blind), Some(start));
    brake.checked(start);
    assert_eq!(brake.due_at(Sight::Clear), Some(start + HELD_CHECK));
    brake.removed(1, start);
    assert!(brake.is_holding() && !brake.is_waiting());
    brake.idle();
    assert!(!brake.is_holding() && brake.due_at(Sight::Clear).is_none());
}

/// A brake that holds, before all was seen, since of 1000 files 900 seemed to be gone.
fn brake_that_holds_for_now(start: Instant) -> (Brake, Instant) {
    let mut brake = brake(start);
    brake.removed(1000, start);
    let late = start + STREAM_MAX;
    assert_eq!(brake.judge(100, Sight::Coming, false, late), Judgement::HoldForNow);
    assert!(brake.is_holding() && brake.is_unjudged() && !brake.is_waiting());
    (brake, late)
}

#[test]
fn what_comes_back_under_other_names_is_let_go_once_all_was_seen() {
    let (mut brake, late) = brake_that_holds_for_now(Instant::now());
    for sight in [Sight::Blind, Sight::Looking, Sight::Coming] {
        assert_eq!(brake.due_at(sight), Some(late + HELD_CHECK));
        assert!(!brake.is_due_again(sight, false, late + seconds(3600.0)));
        let judged = brake.clone().judge(1000, sight, false, late + seconds(3600.0));
        assert_eq!(judged, Judgement::Wait, "{sight:?} is not all");
    }
    assert_eq!(brake.due_at(Sight::Clear), Some(late), "the first sight of all");
    let clear = late + seconds(3600.0);
    assert!(brake.is_due_again(Sight::Clear, false, clear));
    assert_eq!(brake.judge(1000, Sight::Clear, false, clear), Judgement::LetGo);
    assert!(!brake.is_holding() && !brake.is_unjudged());
}

#[test]
fn what_is_gone_for_good_is_held_for_good_once_all_was_seen() {
    for at_end in [false, true] {
        let (mut brake, late) = brake_that_holds_for_now(Instant::now());
        // More goes, and nothing counts from then on but what there was before the first.
        brake.removed(100, late + seconds(7200.0));
        let clear = late + seconds(7200.0) + BATCH.quiet;
        let sight = if at_end { Sight::Coming } else { Sight::Clear };
        assert!(brake.is_due_again(sight, at_end, clear));
        assert_eq!(brake.judge(499, sight, at_end, clear), Judgement::Hold);
        assert!(brake.is_holding() && !brake.is_unjudged());
        assert_eq!(brake.judge(1000, Sight::Clear, true, clear), Judgement::Wait, "someone has to let it go");
    }
}

#[test]
fn what_still_goes_on_when_all_was_seen_stays_held_and_is_judged_later() {
    let (mut brake, late) = brake_that_holds_for_now(Instant::now());
    brake.removed(0, late);
    let wait = brake.waiting().unwrap();
    assert_eq!(brake.judge(100, Sight::Clear, false, late), Judgement::Wait);
    assert!(brake.is_holding() && !brake.is_due_again(Sight::Clear, false, late + seconds(1.0)));
    let later = late + BATCH.max_wait;
    assert_eq!(brake.judge(1000, Sight::Clear, false, later), Judgement::LetGo);
    // The state did not write it down.
    brake.again(wait, later);
    assert!(brake.is_holding() && !brake.is_waiting(), "it is held until it is let go");
}

#[test]
fn what_was_held_for_now_in_an_earlier_life_is_judged_by_what_there_was_before() {
    for (left, judgement) in [(499, Judgement::Hold), (500, Judgement::LetGo)] {
        let start = Instant::now();
        let mut brake = Brake::new(LIMITS, BATCH, true, start);
        brake.judge_again(1000, start);
        let clear = start + BATCH.quiet;
        assert!(brake.is_due_again(Sight::Clear, false, clear));
        assert_eq!(brake.judge(left, Sight::Clear, false, clear), judgement);
    }
}

proptest! {
    /// However a deletion is cut into pieces, at most the share is let go within half an hour.
    #[test]
    fn no_more_than_the_share_is_ever_let_go_at_once(
        total in 20..2000_u64,
        pieces in prop::collection::vec((1..400_u64, 0..60_000_u64, 0..4_u8), 1..40),
    ) {
        let start = Instant::now();
        let mut brake = brake(start);
        let (mut now, mut here, mut let_go) = (start, total, 0);
        let mut waiting = 0;
        for (piece, pause_ms, sight) in pieces {
            now += Duration::from_millis(pause_ms);
            let piece = piece.min(here);
            let before = here + waiting;
            here -= piece;
            waiting += piece;
            if piece > 0 {
                brake.removed(before, now);
            }
            let sight = [Sight::Blind, Sight::Looking, Sight::Coming, Sight::Clear][usize::from(sight)];
            if brake.is_unjudged() && brake.due_at(sight).is_some_and(|due| due <= now)
                && brake.judge(here, sight, false, now) == Judgement::LetGo
            {
                let_go += waiting;
                waiting = 0;
            }
        }
        prop_assert!(let_go < LIMITS.files || let_go * 100 <= LIMITS.share_percent * total, "{let_go} of {total}");
    }

    /// What waits is judged in the end, whatever the folder does, once it can be used.
    #[test]
    fn every_wait_has_an_end(sights in prop::collection::vec(1..4_u8, 1..200), left in 0..100_u64) {
        let start = Instant::now();
        let mut brake = brake(start);
        brake.removed(100, start);
        let (mut now, mut judged) = (start, None);
        for sight in sights.into_iter().cycle().take(5_000) {
            let sight = [Sight::Looking, Sight::Coming, Sight::Clear][usize::from(sight - 1)];
            let Some(due) = brake.due_at(sight) else {
                now += Duration::from_secs(1);
                prop_assert_eq!(sight, Sight::Looking);
                continue;
            };
            prop_assert!(due <= start + STREAM_MAX.max(BATCH.max_wait));
            now = now.max(due);
            let judgement = brake.judge(left, sight, false, now);
            if judgement != Judgement::Wait {
                judged = Some(judgement);
                break;
            }
        }
        // A look at everything has an end.
        let end = now.max(start + STREAM_MAX);
        let judged = judged.unwrap_or_else(|| brake.judge(left, Sight::Coming, false, end));
        prop_assert_eq!(judged == Judgement::LetGo, left >= 50);
        if judged == Judgement::HoldForNow {
            prop_assert_eq!(brake.judge(left, Sight::Clear, false, end + BATCH.quiet), Judgement::Hold);
        }
    }
}
