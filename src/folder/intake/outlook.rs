/// What someone must know of an intake who is to judge whether too much was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// Grows with every removal that was written down, and by one where some may have been.
    pub removals: u64,
    /// Whether more may come.
    pub sight: Sight,
    /// Whether part of a run may have been handed on and the rest of it is about to be.
    pub gathering: bool,
}

/// How much of what has happened in the folder an intake has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sight {
    /// The folder cannot be used: nothing it said before may be true any more.
    Blind,
    /// It looks at everything, and has not come to the end.
    #[default]
    Looking,
    /// It knows of changes that it has not come to.
    Coming,
    /// Nothing that it knows of is left.
    Clear,
}
