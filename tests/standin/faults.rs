//! Faults on demand.

use std::time::Duration;

use oxen_sync::oxen::Op;

use super::call::Call;

/// What happens to a request instead of, or besides, its work.
#[derive(Clone)]
pub(crate) enum Action {
    /// The connection is reset before the body is read; nothing is done.
    ResetBefore,
    /// The connection is reset once this much of the body is read; nothing is done.
    ResetInside { after_bytes: usize },
    /// The connection is reset once this much of the body is read; the server is not told, and waits for the rest.
    Vanish { after_bytes: usize },
    /// The work is done and the connection reset before the answer.
    ResetAfter,
    /// No answer ever comes; nothing is done.
    HangBefore,
    /// The work is done and no answer ever comes.
    HangAfter,
    /// This answer comes, and nothing is done.
    Reply { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The connection is reset, and the work is done after this time.
    LandLate(Duration),
    /// The work is done, and the connection reset after so much of the answer's body.
    CutAnswer { after_bytes: usize },
    /// The work is done after a wait.
    Delay(Duration),
    /// The body is read, and the answer sent, no faster than this.
    Throttle { bytes_per_s: u64 },
    /// Of the files to stage, only the first half is, and only that half is in the answer of success.
    StageHalf,
    /// Of the files to stage or put, only the first half is, and the answer speaks of all.
    LoseHalf,
}

impl Action {
    /// An answer without headers of its own.
    pub(crate) fn reply(status: u16, body: &str) -> Self {
        Self::Reply { status, headers: Vec::new(), body: body.to_owned() }
    }
}

/// Which requests an action is for.
pub(crate) struct Rule {
    op: Option<Op>,
    path: Option<String>,
    skip: usize,
    times: usize,
    action: Action,
}

impl Rule {
    /// For the next request of this kind.
    pub(crate) fn on(op: Op, action: Action) -> Self {
        Self { op: Some(op), path: None, skip: 0, times: 1, action }
    }

    /// For the next request of any kind.
    pub(crate) fn any(action: Action) -> Self {
        Self { op: None, path: None, skip: 0, times: 1, action }
    }

    /// Only where the address, as it was sent, holds this.
    pub(crate) fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    /// Lets so many matching requests through first.
    pub(crate) fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// For so many matching requests in a row.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// For every matching request, until the rules are cleared.
    pub(crate) fn forever(self) -> Self {
        self.times(usize::MAX)
    }

    fn matches(&self, call: &Call) -> bool {
        self.op.is_none_or(|op| call.op == Some(op))
            && self.path.as_ref().is_none_or(|part| call.path.contains(part.as_str()))
    }
}

/// The rules in the order they were given; the first that matches acts.
#[derive(Default)]
pub(crate) struct Rules(Vec<Rule>);

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many faults are still to come.
    pub(crate) fn left(&self) -> usize {
        self.0.iter().fold(0, |left, rule| left.saturating_add(rule.times))
    }

    pub(crate) fn take(&mut self, call: &Call) -> Option<Action> {
        let rule = self.0.iter_mut().find(|rule| rule.times > 0 && rule.matches(call))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.action.clone())
    }
}
