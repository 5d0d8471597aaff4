use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::calls::Counted;
use super::root::kind_of;
use super::{Call, Calls, EntryKind, Signature};

/// An open regular file.
#[derive(Debug)]
pub struct OpenFile {
    /// The one descriptor that everything is read from.
    pub file: File,
    /// Its signature when it was opened.
    pub signature: Signature,
    pub(super) calls: Arc<Calls>,
    /// Goes after `file`.
    pub(super) closing: Option<Call>,
}

/// To close it may take as long as any other call.
impl Drop for OpenFile {
    fn drop(&mut self) {
        self.closing = Some(self.calls.begin());
    }
}

/// Read at once where more is wanted, so that the end of it is seen to come nearer.
const PIECE: usize = 1 << 20;

impl OpenFile {
    /// Reads from where the descriptor stands.
    pub fn reader(&self) -> impl Read {
        Counted { inner: &self.file, call: self.calls.begin() }
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// It ends before, or as the kernel says.
    pub fn read_exact_at(&self, buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        let call = self.calls.begin();
        for piece in buffer.chunks_mut(PIECE) {
            call.moved();
            self.file.read_exact_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// What the descriptor is by now.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn look(&self) -> io::Result<EntryKind> {
        let _call = self.calls.begin();
        Ok(kind_of(&rustix::fs::fstat(&self.file)?))
    }
}
