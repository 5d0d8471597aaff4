use std::process::{ExitCode, Termination};

/// How the process ends; `--help` documents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well: for `push`, everything is proved to be on the server.
    Success,
    /// Something failed, or not everything is on the server.
    Failure,
    /// The arguments or the config cannot be used.
    Usage,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
        })
    }
}
