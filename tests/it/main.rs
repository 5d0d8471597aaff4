//! The promises, checked against real files, real kernels and real servers.
//!
//! Tests that need the real server find it as [`support::real`] says, start it once for the whole process and
//! fail without it, unless `OXEN_SYNC_WITHOUT_REAL_SERVER=1` says otherwise. Run them with `cargo test`: under a
//! runner that gives each test a process of its own, each starts a server of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod documents;
mod e2e;
mod faults;
mod fuzz;
mod generated;
mod guide;
mod hostile;

#[path = "../standin/mod.rs"]
mod standin;
mod support;
mod tls;
mod version;
