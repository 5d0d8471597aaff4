//! What a commit holds. Directories are shared between commits that did not change them.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A directory.
#[derive(Clone, Default)]
pub(crate) struct Dir {
    pub(crate) children: BTreeMap<Arc<str>, Node>,
    /// The commit that changed it last.
    pub(crate) commit: Arc<str>,
}

/// What stands in a directory under a name.
#[derive(Clone)]
pub(crate) enum Node {
    File(File),
    Dir(Arc<Dir>),
}

/// A file; its content lies in the repository under its hash.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) hash: u128,
    pub(crate) size: u64,
    /// The commit that changed it last.
    pub(crate) commit: Arc<str>,
}

impl Dir {
    /// The directory at `path`; the empty path is this one.
    pub(crate) fn dir(&self, path: &str) -> Option<&Dir> {
        let mut dir = self;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            match dir.children.get(segment)? {
                Node::Dir(below) => dir = below,
                Node::File(_) => return None,
            }
        }
        Some(dir)
    }

    /// What stands at `path`, which is not empty.
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.dir(dir)?.children.get(name)
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        match self.node(path)? {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        }
    }

    /// Whether a directory above `path` is a file.
    pub(crate) fn has_file_above(&self, path: &str) -> bool {
        path.match_indices('/').any(|(at, _)| self.file(&path[..at]).is_some())
    }

    /// Puts a file there; files in the way become directories.
    pub(crate) fn put(&mut self, path: &str, file: File) {
        self.commit = file.commit.clone();
        match path.split_once('/') {
            None => {
                self.children.insert(path.into(), Node::File(file));
            }
            Some((name, rest)) => {
                let below = self.children.entry(name.into()).or_insert_with(|| Node::Dir(Arc::default()));
                if let Node::File(_) = below {
                    *below = Node::Dir(Arc::default());
                }
                if let Node::Dir(dir) = below {
                    Arc::make_mut(dir).put(rest, file);
                }
            }
        }
    }

    /// Takes away what stands there. The directory that held it stays.
    pub(crate) fn remove(&mut self, path: &str, commit: &Arc<str>) {
        self.commit = commit.clone();
        match path.split_once('/') {
            None => {
                self.children.remove(path);
            }
            Some((name, rest)) => {
                if let Some(Node::Dir(dir)) = self.children.get_mut(name) {
                    Arc::make_mut(dir).remove(rest, commit);
                }
            }
        }
    }

    /// Calls `each` with every file below, in the order of their paths' segments.
    pub(crate) fn each_file(&self, prefix: &str, each: &mut dyn FnMut(&str, &File)) {
        for (name, node) in &self.children {
            let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
            match node {
                Node::File(file) => each(&path, file),
                Node::Dir(dir) => dir.each_file(&path, each),
            }
        }
    }

    /// The bytes of all files below.
    pub(crate) fn size(&self) -> u64 {
        self.children
            .values()
            .map(|node| match node {
                Node::File(file) => file.size,
                Node::Dir(dir) => dir.size(),
            })
            .sum()
    }
}
