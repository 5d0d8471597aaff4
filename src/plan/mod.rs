//! What goes into which commit, and which requests carry it. Pure: data and `now` in, decisions out.

mod brake;
mod planner;
mod requests;
pub mod retire;
mod runs;

pub use brake::{Brake, Judgement};
pub use planner::{Mark, Planner};
pub use requests::{Requests, SMALL_FILE_MAX, groups_for_put, requests};
pub use runs::Marker;
