//! oxen-sync: watches folders and commits their finished files to a branch of an Oxen repository.
//!
//! # The promise
//! Every file that was finished is on the branch, byte for byte, exactly once, provably; and no commit holds bytes that
//! never were a finished file.
//!
//! # The way of a file
//! ```text
//! config ─► folder ─────────────► content ──────► plan ─────► push ─────────────────► state
//!           watch, scan, settle   stat, hash      batches     stage, commit, prove    what is proved
//! ```
//! - Events are hints, the database of what was proved is the memory, the server is the arbiter. A hint that is lost
//!   costs time and never a file: a scan compares everything at the start, on a timer, and whenever hints ran over.
//! - A file is taken when it was quiet, stands as it did at its last look, and nobody has it open for writing. It is
//!   opened once, its signature compared before and after reading. Small files are read whole and checked against their hash before they are sent; large ones
//!   are checked again before the part that completes them, and by the server. So torn bytes reach no commit.
//! - A batch stands in the journal before anything of it goes out, and is closed when the branch was compared with it. An
//!   open batch is settled first: a workspace that was being committed is committed again, which the server does once; a
//!   PUT whose answer was lost is asked about. So a crash at any point loses nothing and doubles nothing.
//! - A file is only blamed for what is known to be its fault, or when others of its batch went through; else the server is
//!   in trouble, and waiting helps. What the branch is known to hold is compared with it at the start, after trouble and on
//!   a timer.
//! - Nothing goes from a branch unless its folder was seen without it, and a folder that lost too much at once is asked
//!   about ([`plan::Brake`]). Removals wait in the database, where they survive a crash and fill no queue.
//! - A file is taken off the machine, where `after_push` says so, only while the branch is known to hold its very bytes,
//!   and on the kernel's word that nobody writes to it; before it goes, its row says that the branch keeps it.
//! - A run waits for its marker, where `batch.marker` names one, and the marker goes with the last of its run: handed on
//!   last, in the last batch, staged last, and held back where something of the run was left out.
//! - Queues are bounded everywhere. What does not fit waits where it is: in the folder.
//!
//! # The house
//! Modules stand in reading order. What decides is pure and takes `now` ([`folder::SettleStage`], [`folder::Hints`],
//! [`plan`], [`push::verdict`], [`push::backoff`], [`config::diff`]); what touches files, sockets and clocks decides
//! nothing.
//!
//! | Module | Knows | Knows nothing of |
//! |---|---|---|
//! | [`path`] | names here and names there | everything else |
//! | [`content`] | opening, signatures, hashes | what is done with them |
//! | [`oxen`] | HTTP and Oxen's API as it really is | folders, batches, state |
//! | [`state`] | what is proved and under way, in SQLite | how it came about |
//! | [`config`] | the TOML file | what runs |
//! | [`folder`] | one folder: watches, settling, scans | servers |
//! | [`plan`] | which changes make a batch, which requests carry it, which removals are held, which files may be taken off | time and sockets, but for `now` |
//! | [`push`] | one target: delivering, proving, recovering | events and scans |
//! | [`service`] | wiring all of it, reload, systemd | decisions |
//! | [`status`] | reports | changing anything |
//! | [`control`] | how a service is asked and steered | how that is done |
//! | [`page`] | HTML, events, Prometheus' format | where reports come from, changing anything |
//! | [`cli`] | the commands | how they work |

pub mod guide;

mod blocking;

pub mod fault_point;

pub mod path;

pub mod config;

pub mod folder;

pub mod content;

pub mod plan;

pub mod push;

pub mod oxen;

pub mod state;

pub mod service;

pub mod status;

pub mod control;

pub mod page;

pub mod cli;
