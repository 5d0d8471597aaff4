//! What tests share.

pub(crate) mod browser;
pub(crate) mod ledger;
pub(crate) mod means;
pub(crate) mod oracle;
pub(crate) mod process;
pub(crate) mod real;
pub(crate) mod rig;
pub(crate) mod schema;
pub(crate) mod secure;
pub(crate) mod site;
pub(crate) mod tree;
