//! From finished changes to proved commits.
//!
//! A [`worker`] takes changes in, lets the planner make batches of them and has each delivered: journaled, staged,
//! committed, proved, closed. Whatever goes wrong on the way is sorted by one function ([`verdict`]) and settled by one
//! mechanism: the open batches of the journal are recovered before anything else is sent, after a lost
//! answer just as after a crash.

mod after_push;
mod asked;
pub mod backoff;
mod batch;
mod by_put;
mod by_workspace;
pub mod compare;
mod deliver;
mod early;
mod in_the_way;
mod isolate;
mod memory;
mod parts;
mod prepare;
mod progress;
mod prove;
mod pusher;
mod recover;
mod removals;
mod set_aside;
mod settle;
mod source;
mod stage;
mod survey;
mod target;
mod tries;
mod turns;
mod upload;
pub mod verdict;
pub mod worker;

pub use asked::{Ask, Holds, PushStage, Steering};
pub use memory::SHARED_MIB;
pub use progress::{BatchProgress, PushPhase, PushStatus};
pub use pusher::Pusher;
pub use target::Target;
pub use turns::{Rank, Turns};
pub use worker::{PushOptions, PushReport};
