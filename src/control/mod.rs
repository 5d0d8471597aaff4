//! How a running service is asked and steered: HTTP and JSON over the Unix socket of the state directory, or of the config
//! key `socket`. The commands of the program ask in the same way.
//!
//! | Request | Body | Answer |
//! |---|---|---|
//! | `GET /status` | | [`crate::status::Report`] |
//! | `GET /why?path=PATH` | | [`crate::status::WhyReport`]; PATH absolute, percent-encoded |
//! | `GET /log?folder=PATH&since_ms=MS&limit=N` | | [`crate::status::LogReport`]; all may be left out |
//! | `GET /failed?folder=PATH` | | [`crate::status::FailedReport`] |
//! | `POST /retry` | [`api::Paths`] | [`api::Done`] |
//! | `POST /reload` | | [`api::Done`], once the config was read anew |
//! | `POST /rescan`, `POST /resume` | [`api::Folders`] | [`api::Done`] |
//! | `POST /pause` | [`api::Pausing`] | [`api::Done`] |
//! | `POST /release` | [`api::Folders`] | [`api::Done`]; asked again until it counts none |
//! | `POST /flush`, `POST /verify` | [`api::Folders`] | [`api::Ticket`] |
//! | `GET /flush/N?wait_s=S` | | [`api::Flushed`], as soon as it is done or after S seconds, at most 10 |
//! | `GET /verify/N?wait_s=S` | | [`api::Verified`], likewise |
//!
//! What cannot be done is answered with a status of 4xx or 5xx and [`api::Refused`]. A connection lasts for 20 seconds at
//! most; what takes longer goes by ticket. Fields are only ever added.
//!
//! ```sh
//! curl --unix-socket /var/lib/oxen-sync/oxen-sync.sock http://localhost/status
//! curl --unix-socket /var/lib/oxen-sync/oxen-sync.sock http://localhost/pause \
//!     --json '{"folders": ["/data/camera"], "for_s": 7200}'
//! ```

pub mod api;
mod client;

pub use client::{Client, ClientError};
