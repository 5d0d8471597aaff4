//! What goes into which commit, and which requests carry it. Pure: data and `now` in, decisions out.

mod planner;
mod requests;

pub use planner::Planner;
pub use requests::{Carrier, Requests, SMALL_FILE_MAX, carrier, groups_for_put, requests};
