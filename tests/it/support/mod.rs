//! What tests share.

pub(crate) mod real;
pub(crate) mod site;
