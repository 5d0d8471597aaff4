use std::collections::{BTreeMap, BTreeSet};

use crate::path::LocalPath;

/// Where to look again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// At this one path.
    Path(LocalPath),
    /// At everything from here on down.
    Tree(LocalPath),
}

/// A bounded set of hints that forgets nothing: when it grows too large it gets coarser, first to all below a
/// directory, then to the whole folder.
#[derive(Debug)]
pub struct Hints {
    /// Single names by their directory.
    paths: BTreeMap<LocalPath, BTreeSet<LocalPath>>,
    paths_total: usize,
    trees: BTreeSet<LocalPath>,
    limits: HintLimits,
}

/// How many hints are held before they collapse.
#[derive(Debug, Clone, Copy)]
struct HintLimits {
    total: usize,
    in_one_dir: usize,
}

impl Default for Hints {
    fn default() -> Self {
        Self::with_limits(HintLimits { total: 16_384, in_one_dir: 4_096 })
    }
}

impl Hints {
    fn with_limits(limits: HintLimits) -> Self {
        Self { paths: BTreeMap::new(), paths_total: 0, trees: BTreeSet::new(), limits }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many hints are held.
    pub fn len(&self) -> usize {
        self.paths_total + self.trees.len()
    }

    /// Adds a hint, or nothing where a coarser one covers it.
    pub fn add(&mut self, hint: Hint) {
        match hint {
            Hint::Path(path) => self.add_path(path),
            Hint::Tree(tree) => self.add_tree(tree),
        }
        if self.len() > self.limits.total {
            self.add_tree(LocalPath::root());
        }
    }

    /// Takes everything out, the coarsest first.
    pub fn take(&mut self) -> Vec<Hint> {
        let taken = std::mem::replace(self, Self::with_limits(self.limits));
        let trees = taken.trees.into_iter().map(Hint::Tree);
        let paths = taken.paths.into_values().flatten().map(Hint::Path);
        trees.chain(paths).collect()
    }

    fn add_path(&mut self, path: LocalPath) {
        let Some(parent) = path.parent() else { return self.add_tree(path) };
        if self.in_a_tree(&path) {
            return;
        }
        let names = self.paths.entry(parent.clone()).or_default();
        if names.insert(path) {
            self.paths_total += 1;
        }
        if names.len() > self.limits.in_one_dir {
            self.add_tree(parent);
        }
    }

    fn add_tree(&mut self, tree: LocalPath) {
        if self.in_a_tree(&tree) {
            return;
        }
        let inside = |path: &LocalPath| path.starts_with(&tree);
        self.trees.retain(|path| !inside(path));
        let total = &mut self.paths_total;
        self.paths.retain(|dir, names| {
            let before = names.len();
            if inside(dir) {
                names.clear();
            } else {
                names.remove(&tree);
            }
            *total -= before - names.len();
            !names.is_empty()
        });
        self.trees.insert(tree);
    }

    fn in_a_tree(&self, path: &LocalPath) -> bool {
        if self.trees.is_empty() {
            return false;
        }
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.trees.contains(&path) {
                return true;
            }
            at = path.parent();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn covers(hints: &[Hint], path: &LocalPath) -> bool {
        hints.iter().any(|hint| match hint {
            Hint::Path(at) => at == path,
            Hint::Tree(tree) => path.starts_with(tree),
        })
    }

    #[test]
    fn many_names_of_one_directory_become_the_directory() {
        let mut hints = Hints::with_limits(HintLimits { total: 100, in_one_dir: 3 });
        for n in 0..50 {
            hints.add(Hint::Path(local(&format!("d/{n}"))));
        }
        hints.add(Hint::Path(local("e/1")));
        assert_eq!(hints.take(), [Hint::Tree(local("d")), Hint::Path(local("e/1"))]);
        assert!(hints.is_empty());
    }

    #[test]
    fn a_tree_covers_what_lies_in_it() {
        let mut hints = Hints::default();
        hints.add(Hint::Path(local("d")));
        hints.add(Hint::Path(local("d/a/1")));
        hints.add(Hint::Tree(local("d/b")));
        hints.add(Hint::Tree(local("d")));
        hints.add(Hint::Path(local("d/c")));
        hints.add(Hint::Path(local("da")));
        assert_eq!(hints.take(), [Hint::Tree(local("d")), Hint::Path(local("da"))]);
    }

    proptest! {
        #[test]
        fn nothing_is_ever_forgotten_and_the_set_stays_small(
            added in prop::collection::vec((0..4_u8, prop::collection::vec(0..4_u8, 0..4)), 0..200)
        ) {
            let mut hints = Hints::with_limits(HintLimits { total: 12, in_one_dir: 3 });
            let mut wanted = Vec::new();
            for (kind, segments) in added {
                let path = local(&segments.iter().map(ToString::to_string).collect::<Vec<_>>().join("/"));
                wanted.push(path.clone());
                hints.add(if kind == 0 { Hint::Tree(path) } else { Hint::Path(path) });
                prop_assert!(hints.len() <= 12);
            }
            let count = hints.len();
            let taken = hints.take();
            prop_assert_eq!(taken.len(), count);
            for path in wanted {
                prop_assert!(covers(&taken, &path), "{} is lost", path);
            }
        }
    }
}
