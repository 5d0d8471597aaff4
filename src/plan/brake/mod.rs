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
mod tests;
