use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{BatchLimits, DeleteBrake};
use crate::folder::intake::Sight;

/// How long what was removed counts as removed at once with what is removed later.
const AT_ONCE: Duration = Duration::from_secs(30 * 60);
/// How exactly that is known.
const AT_ONCE_STEP: Duration = Duration::from_secs(60);
/// How long removals that go on and on are waited for before they are judged by what is there.
const STREAM_MAX: Duration = Duration::from_secs(10 * 60);
/// The part of all files, one in so many, that may go while more is coming.
const SMALL_PART: u64 = 50;
/// The shortest pause between two looks at removals that go on.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether what is held has come back.
const HELD_CHECK: Duration = Duration::from_secs(2);

/// Judges whether removals may go to the branch, or are so many that someone has to say so.
///
/// It compares what the folder had before the first of them with what it has after the last: files that come and go, or
/// get other names, make it no smaller. It therefore waits for the end of what goes on. What goes on for very long is
/// judged by what is there, and what was let go before counts with it for a while. What is held then, before all was
/// seen, is held provisionally: it is judged once more, against the same count from before, when all was.
#[derive(Debug, Clone)]
pub struct Brake {
    limits: DeleteBrake,
    quiet: Duration,
    max_wait: Duration,
    stream_max: Duration,
    state: State,
    /// When removals were let go, and how many files there were before.
    recent: VecDeque<(Instant, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    /// Removals wait to be judged.
    Waiting(Wait),
    /// Nothing is removed until someone lets it go, or all of it has come back. With `again`, it is judged once more.
    Holding {
        check: Instant,
        again: Option<Wait>,
    },
}

/// Removals that wait to be judged, as far as the brake knows of them.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    first: Instant,
    last: Instant,
    /// Files of the branch that the folder had before.
    before: u64,
    /// When it is looked whether they may go although more is coming.
    early: Instant,
    /// Whether they are held until then.
    is_held: bool,
}

impl Wait {
    /// When the first and the last of them came.
    pub fn span(&self) -> (Instant, Instant) {
        (self.first, self.last)
    }

    /// Files of the branch that the folder had before them.
    pub fn before(&self) -> u64 {
        self.before
    }
}

/// What is to come of the removals that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// They may go.
    LetGo,
    /// They are too many.
    Hold,
    /// They are too many as far as is seen; once all is seen, they are judged again.
    HoldForNow,
    /// More may come; they are judged later.
    Wait,
}

impl Brake {
    /// A brake before which nothing waits; with `holding`, one that holds since an earlier life.
    pub fn new(limits: DeleteBrake, batch: BatchLimits, holding: bool, now: Instant) -> Self {
        let state = if holding { State::Holding { check: now, again: None } } else { State::Idle };
        Self {
            limits,
            quiet: batch.quiet,
            max_wait: batch.max_wait,
            stream_max: STREAM_MAX.max(batch.max_wait),
            state,
            recent: VecDeque::new(),
        }
    }

    /// Whether removals wait to be judged.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Removals that are held since an earlier life are to be judged once more, with so many files `before` them.
    pub fn judge_again(&mut self, before: u64, now: Instant) {
        if let State::Holding { again, .. } = &mut self.state {
            *again = Some(Wait { first: now, last: now, before, early: now, is_held: true });
        }
    }

    /// Whether removals are to be judged, for the first time or once more.
    pub fn is_unjudged(&self) -> bool {
        self.waiting().is_some()
    }

    /// Whether removals are held.
    pub fn is_holding(&self) -> bool {
        matches!(self.state, State::Holding { .. })
    }

    /// Removals came. `before` counts the files that the folder had before them, and is asked only where nothing waited.
    pub fn removed(&mut self, before: u64, now: Instant) {
        match &mut self.state {
            State::Idle => {
                let early = now + self.max_wait;
                self.state = State::Waiting(Wait { first: now, last: now, before, early, is_held: false });
            }
            State::Waiting(wait) | State::Holding { again: Some(wait), .. } => wait.last = now,
            State::Holding { again: None, .. } => {}
        }
    }

    /// The folder is being looked at. What is found in it takes its time too.
    pub fn looking(&mut self, now: Instant) {
        if let State::Waiting(wait) = &mut self.state {
            wait.early = now + self.max_wait;
        }
    }

    /// When the removals that wait are to be judged, or those that are held looked at; `None` where that waits for the
    /// folder.
    pub fn due_at(&self, sight: Sight) -> Option<Instant> {
        match (self.state, sight) {
            // A look at everything comes to its end by itself.
            (State::Idle, _) | (State::Waiting(_), Sight::Blind | Sight::Looking) => None,
            (State::Waiting(Wait { first, last, early, .. }), Sight::Clear) => {
                Some((last + self.quiet).min(early).min(first + self.stream_max))
            }
            (State::Waiting(Wait { first, early, .. }), Sight::Coming) => {
                Some(early.min(first + self.stream_max))
            }
            (State::Holding { check, again: Some(Wait { early, .. }) }, Sight::Clear) => {
                Some(check.min(early))
            }
            (State::Holding { check, .. }, _) => Some(check),
        }
    }

    /// Judges the removals that wait, with `left` files of the branch in the folder by now, those that are about to be
    /// pushed included. With `at_end`, nothing more can come.
    pub fn judge(&mut self, left: u64, sight: Sight, at_end: bool, now: Instant) -> Judgement {
        let Some(wait) = self.waiting() else { return Judgement::Wait };
        let Wait { first, last, before, early, is_held } = wait;
        self.recent.retain(|(at, _)| now.saturating_duration_since(*at) < AT_ONCE);
        let most = self.recent.iter().map(|(_, before)| *before).fold(before, u64::max);
        let is_at_rest = at_end || (sight == Sight::Clear && now >= last + self.quiet);
        let goes_on = !is_held && matches!(sight, Sight::Clear | Sight::Coming);
        let is_over = is_at_rest || (goes_on && now >= first + self.stream_max);
        let lost = most.saturating_sub(left);
        let is_too_much = if is_over {
            self.is_too_much(most, lost)
        } else {
            // What may be the beginning of something large waits for the rest of it.
            lost >= self.limits.files && lost > most / SMALL_PART && !self.limits.is_off()
        };
        // Who is held has been judged by less already.
        let is_seen = at_end || goes_on || sight == Sight::Clear;
        if is_seen && !is_too_much && (is_over || now >= early) {
            // Not the most of all: what is known from earlier ends with its own half hour.
            self.remember(before, now);
            self.state = State::Idle;
            return Judgement::LetGo;
        }
        let check = now + HELD_CHECK;
        if is_at_rest {
            self.state = State::Holding { check, again: None };
            return Judgement::Hold;
        }
        if is_over {
            let again = Some(Wait { early: now, is_held: true, ..wait });
            self.state = State::Holding { check, again };
            return Judgement::HoldForNow;
        }
        self.again(wait, now);
        Judgement::Wait
    }

    /// What was judged could not be carried out, or is not over: it waits on, as what it was, and is judged again.
    pub fn again(&mut self, wait: Wait, now: Instant) {
        let wait = Wait { early: now + self.max_wait.max(AGAIN_MIN), ..wait };
        self.state = if wait.is_held {
            State::Holding { check: now + HELD_CHECK, again: Some(wait) }
        } else {
            State::Waiting(wait)
        };
    }

    /// What is held was looked at; the next look comes by itself.
    pub fn checked(&mut self, now: Instant) {
        if let State::Holding { check, .. } = &mut self.state {
            *check = now + HELD_CHECK;
        }
    }

    /// Whether what is held can be judged once more: all was seen.
    pub fn is_due_again(&self, sight: Sight, at_end: bool, now: Instant) -> bool {
        self.is_holding()
            && self.waiting().is_some_and(|wait| at_end || (sight == Sight::Clear && now >= wait.early))
    }

    /// The removals that are to be judged, for the first time or once more.
    pub fn waiting(&self) -> Option<Wait> {
        match self.state {
            State::Waiting(wait) | State::Holding { again: Some(wait), .. } => Some(wait),
            State::Idle | State::Holding { again: None, .. } => None,
        }
    }

    /// Nothing waits any more.
    pub fn idle(&mut self) {
        self.state = State::Idle;
    }

    /// How long ago removals were let go that still count, and how many files there were before, the oldest first.
    pub fn lately(&self, now: Instant) -> Vec<(Duration, u64)> {
        self.recent.iter().map(|(at, before)| (now.saturating_duration_since(*at), *before)).collect()
    }

    /// What [`Brake::lately`] was in an earlier life, or is after someone said that it is as it should be.
    pub fn recall(&mut self, lately: impl IntoIterator<Item = (Duration, u64)>, now: Instant) {
        let at = |age| now.checked_sub(age).unwrap_or(now);
        let young = lately.into_iter().filter(|(age, _)| *age < AT_ONCE);
        self.recent = young.map(|(age, before)| (at(age), before)).collect();
    }

    fn remember(&mut self, before: u64, now: Instant) {
        match self.recent.back_mut().filter(|(at, _)| now.saturating_duration_since(*at) < AT_ONCE_STEP) {
            Some((_, most)) => *most = before.max(*most),
            None => self.recent.push_back((now, before)),
        }
    }

    fn is_too_much(&self, before: u64, lost: u64) -> bool {
        let (lost_percent, share) = (u128::from(lost) * 100, u128::from(self.limits.share_percent));
        lost >= self.limits.files && lost_percent > share * u128::from(before)
    }
}

#[cfg(test)]
mod tests {
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
            let (at, left) =
                (start + step * Duration::from_secs(20 * 60), 10_000 - 100 * u64::from(step + 1));
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
            assert_eq!(
                brake.judge(1000, Sight::Clear, true, clear),
                Judgement::Wait,
                "someone has to let it go"
            );
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
}
