//! What was finished, and when.

use std::collections::HashMap;
use std::sync::Mutex;

use xxhash_rust::xxh3::xxh3_128;

/// Which contents were finished at which path, in their order. Whoever writes a file says so here before its last byte
/// stands.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    contents: Mutex<HashMap<String, Vec<u128>>>,
    /// Whether several machines write the same paths, so that there is no order.
    pub(super) is_shared: bool,
}

impl Ledger {
    /// One for several machines that write the same paths.
    pub(crate) fn shared() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    /// `content` is about to be finished at `path`.
    pub(crate) fn finished(&self, path: &str, content: &[u8]) {
        self.finished_as(path, xxh3_128(content));
    }

    /// The content with this hash is about to be finished at `path`.
    pub(crate) fn finished_as(&self, path: &str, xxh3: u128) {
        self.contents.lock().unwrap().entry(path.to_owned()).or_default().push(xxh3);
    }

    /// How many contents were finished.
    pub(crate) fn len(&self) -> usize {
        self.contents.lock().unwrap().values().map(Vec::len).sum()
    }

    /// Where in the order of `path` this content was finished, from `from` on.
    pub(super) fn find(&self, path: &str, xxh3: u128, from: usize) -> Option<usize> {
        let all = self.contents.lock().unwrap();
        all.get(path)?.iter().skip(from).position(|known| *known == xxh3).map(|at| from + at)
    }
}
