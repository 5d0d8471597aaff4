use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::EntryKind;

/// What stands in a directory, in the order of the names' bytes. A directory may hold millions: the names lie side by side
/// in one piece of memory.
#[derive(Debug, Clone, Default)]
pub struct DirEntries {
    names: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name_at: usize,
    name_len: u16,
    kind: EntryKind,
}

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name alone.
    pub name: &'a OsStr,
    /// What it is.
    pub kind: EntryKind,
}

impl DirEntries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The one at `index`.
    pub fn get(&self, index: usize) -> Option<DirEntry<'_>> {
        let entry = self.entries.get(index)?;
        Some(DirEntry { name: OsStr::from_bytes(name_of(&self.names, entry)), kind: entry.kind })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = DirEntry<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> FromIterator<(&'a OsStr, EntryKind)> for DirEntries {
    fn from_iter<T: IntoIterator<Item = (&'a OsStr, EntryKind)>>(named: T) -> Self {
        let mut entries = Self::default();
        named.into_iter().for_each(|(name, kind)| entries.push(name, kind));
        entries.sort();
        entries
    }
}

impl DirEntries {
    /// Adds a name; [`DirEntries::sort`] puts it where it belongs.
    pub(super) fn push(&mut self, name: &OsStr, kind: EntryKind) {
        // The kernel's names are shorter by far (NAME_MAX, and FUSE's 4096).
        let Ok(name_len) = u16::try_from(name.len()) else { return };
        self.entries.push(Entry { name_at: self.names.len(), name_len, kind });
        self.names.extend_from_slice(name.as_bytes());
    }

    pub(super) fn sort(&mut self) {
        let names = &self.names;
        self.entries.sort_unstable_by(|one, other| name_of(names, one).cmp(name_of(names, other)));
    }
}

fn name_of<'a>(names: &'a [u8], entry: &Entry) -> &'a [u8] {
    names.get(entry.name_at..entry.name_at + usize::from(entry.name_len)).unwrap_or_default()
}
