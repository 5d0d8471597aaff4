//! How to use oxen-sync: a tutorial, how-to pages for each kind of rig and for watching it, the reference, and why it can be
//! trusted.
//!
//! Each block of commands in these pages is run by a test against the real server, and what they print is what the test saw
//! (`tests/it/guide`).

// The first definition of a link counts: here they lead to these pages, and in the file to the files beside it.
#[doc = "[camera]: crate::guide::camera"]
#[doc = "[microscope]: crate::guide::microscope"]
#[doc = "[robot]: crate::guide::robot"]
#[doc = "[nas]: crate::guide::nas"]
#[doc = "[many_rigs]: crate::guide::many_rigs"]
#[doc = "[watch]: crate::guide::watch"]
#[doc = "[metrics]: crate::guide::metrics"]
#[doc = "[commands]: crate::guide::commands"]
#[doc = "[promises]: crate::guide::promises"]
#[doc = ""]
#[doc = include_str!("tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("camera.md")]
pub mod camera {}

#[doc = include_str!("microscope.md")]
pub mod microscope {}

#[doc = include_str!("robot.md")]
pub mod robot {}

#[doc = include_str!("nas.md")]
pub mod nas {}

#[doc = include_str!("many_rigs.md")]
pub mod many_rigs {}

#[doc = "[metrics]: crate::guide::metrics"]
#[doc = ""]
#[doc = include_str!("watch.md")]
pub mod watch {}

#[doc = "[watch]: crate::guide::watch"]
#[doc = ""]
#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("commands.md")]
pub mod commands {}

#[doc = include_str!("promises.md")]
pub mod promises {}
