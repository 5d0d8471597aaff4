//! What wakes the service when nothing happens, so that whoever looks at its wake-ups finds the reason of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Folder, TakeOff};
use crate::folder::Coverage;
use crate::folder::intake::{ROOT_CHECK, UNCOVERED_RESCAN};
use crate::plan::retire;

/// How often what systemd shows is brought up to date, and failed folders are looked for: while something goes on, and at
/// rest.
pub const TICK: Duration = Duration::from_secs(1);
/// See [`TICK`].
pub const TICK_AT_REST: Duration = Duration::from_secs(5);
/// How often the config is read where the kernel tells of its changes, for what it missed.
pub const CONFIG_POLL: Duration = Duration::from_secs(30);

/// Something that is done again and again, whatever happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimerReport {
    /// What is done.
    pub what: String,
    /// How often, in seconds.
    pub every_s: f64,
}

fn timer(what: &str, every: Duration) -> TimerReport {
    TimerReport { what: what.to_owned(), every_s: every.as_secs_f64() }
}

/// The timers of the service itself at rest.
pub(super) fn of_service() -> Vec<TimerReport> {
    vec![
        timer("its folders are looked after, and systemd is told", TICK_AT_REST),
        timer("the config file is compared with what is in use", CONFIG_POLL),
    ]
}

/// The timers of a folder at rest.
pub(super) fn of_folder(folder: &Folder, coverage: &Coverage) -> Vec<TimerReport> {
    let rescan = match coverage {
        Coverage::Full => folder.rescan_interval,
        _ => folder.rescan_interval.min(UNCOVERED_RESCAN),
    };
    let mut timers = vec![
        timer("it is looked whether the folder is still the same directory", ROOT_CHECK),
        timer("all of the folder is compared with what is known", rescan),
        timer("the branch is compared with what is known", folder.rescan_interval),
    ];
    if folder.after_push.action != TakeOff::Keep {
        let every = retire::interval(folder.after_push.min_age);
        timers.push(timer("files are looked for that after_push takes off", every));
    }
    timers
}
