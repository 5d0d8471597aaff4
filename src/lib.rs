//! oxen-sync: watches folders and commits their finished files to a branch of an Oxen repository.

pub mod cli;
pub mod config;
pub mod content;
pub mod folder;
pub mod oxen;
pub mod path;
pub mod plan;
pub mod push;
pub mod service;
pub mod state;
pub mod status;
