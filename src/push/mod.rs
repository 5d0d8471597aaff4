//! From finished changes to proved commits.
//!
//! A [`worker`] takes changes in, lets the planner make batches of them and has each delivered: journaled, staged,
//! committed, proved, closed. Whatever goes wrong on the way is sorted by one function ([`verdict`]) and settled by one
//! mechanism: the open batches of the journal are recovered before anything else is sent, after a lost
//! answer just as after a crash.

pub mod backoff;
mod deliver;
mod in_the_way;
mod prove;
mod recover;
mod seed;
mod stage;
mod target;
pub mod verdict;
pub mod worker;

pub use deliver::Pusher;
pub use target::Target;
pub use worker::{BatchProgress, PushOptions, PushPhase, PushReport, PushStatus};
