use crate::oxen::{CommitInfo, PUT_FORM_MAX, fits_multipart_path, fits_put_name, put_form_len};
use crate::path::RepoPath;
use crate::state::{Change, ChangeKind};

/// A file of at most this size is read whole and travels with others in one form; a larger one goes in parts.
pub const SMALL_FILE_MAX: u64 = 1024 * 1024;
/// The content of one form, in bytes and in files. The server stores the files of a form one by one, each to its disk, and
/// those of several forms side by side (oxen-server 0.65.2): many small forms keep it busy to the end of a batch, and few files
/// are there sooner in a few forms than in one.
const FORM_BYTES_MAX: u64 = 4 * 1024 * 1024;
const FORM_FILES_MAX: usize = 125;
const FORM_FILES_MIN: usize = 25;
const FORMS_MIN: usize = 4;
/// So many files take a PUT about a second (oxen-server 0.65.2); who waits for a lost answer knows how long.
const PUT_FILES_MAX: usize = 100;
/// Below this size it costs less to send a content again than to ask whether it is there.
const ASK_MIN: u64 = 64 * 1024;

/// A batch's changes, by index, sorted into the requests that stage them in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Paths to be removed.
    pub removals: Vec<usize>,
    /// Removals that nobody asks for: the server replaces the file by a directory when something is put below it.
    pub replaced: Vec<usize>,
    /// Small files, each group one form.
    pub forms: Vec<Vec<usize>>,
    /// Files that go in parts, or without bytes where the server has the content.
    pub uploads: Vec<usize>,
    /// Files that no request can carry.
    pub unsendable: Vec<usize>,
}

impl Requests {
    /// Parts the requests that put the files for which `is_late` holds.
    #[must_use]
    pub fn split_off(&mut self, is_late: impl Fn(usize) -> bool) -> Self {
        let late_form =
            |form: &mut Vec<usize>| form.extract_if(.., |index| is_late(*index)).collect::<Vec<_>>();
        let mut forms: Vec<_> = self.forms.iter_mut().map(late_form).collect();
        forms.retain(|form| !form.is_empty());
        self.forms.retain(|form| !form.is_empty());
        let uploads = self.uploads.extract_if(.., |index| is_late(*index)).collect();
        Self { forms, uploads, ..Self::default() }
    }

    /// Leaves out the files for which `is_left_out` holds.
    pub fn leave_out(&mut self, is_left_out: impl Fn(usize) -> bool) {
        drop(self.split_off(is_left_out));
    }
}

/// Splits changes into groups that a PUT each can carry, and those that none can.
pub fn groups_for_put(
    changes: Vec<Change>,
    path_of: impl Fn(&Change) -> RepoPath,
    info: &CommitInfo,
) -> (Vec<Vec<Change>>, Vec<Change>) {
    let (mut groups, mut rest) = (Vec::<Vec<Change>>::new(), Vec::new());
    for change in changes {
        let path = path_of(&change);
        if !fits_put(std::slice::from_ref(&change), std::slice::from_ref(&path), info) {
            rest.push(change);
            continue;
        }
        if let Some(last) = groups.last_mut() {
            last.push(change);
            let paths: Vec<_> = last.iter().map(&path_of).collect();
            if last.len() <= PUT_FILES_MAX && fits_put(last, &paths, info) {
                continue;
            }
            let Some(change) = last.pop() else { continue };
            groups.push(vec![change]);
        } else {
            groups.push(vec![change]);
        }
    }
    (groups, rest)
}

/// Sorts changes, which come in the order of their paths, into requests. `knows` says whether a content has been put into the repository before.
pub fn requests(changes: &[Change], paths: &[RepoPath], knows: impl Fn(u128) -> bool) -> Requests {
    let mut requests = Requests::default();
    let mut small = Vec::new();
    for (index, (change, path)) in changes.iter().zip(paths).enumerate() {
        let ChangeKind::Put { signature, digests, .. } = change.kind else {
            // A removal in the same workspace would take along what is put below.
            let mut below =
                changes.iter().zip(paths).skip(index + 1).take_while(|(_, at)| at.starts_with(path));
            let becomes_dir = below.any(|(other, _)| matches!(other.kind, ChangeKind::Put { .. }));
            if becomes_dir { &mut requests.replaced } else { &mut requests.removals }.push(index);
            continue;
        };
        let fits_form = fits_multipart_path(path.as_str());
        let large = signature.size > SMALL_FILE_MAX;
        let known = signature.size >= ASK_MIN && knows(digests.xxh3);
        if signature.size > 0 && (large || known || !fits_form) {
            requests.uploads.push(index);
            continue;
        }
        if !fits_form {
            requests.unsendable.push(index);
            continue;
        }
        small.push((index, signature.size));
    }
    requests.forms = forms(&small);
    requests
}

/// Spreads small files, by index and size, over forms.
fn forms(files: &[(usize, u64)]) -> Vec<Vec<usize>> {
    let files_max = files.len().div_ceil(FORMS_MIN).clamp(FORM_FILES_MIN, FORM_FILES_MAX);
    let (mut forms, mut bytes) = (Vec::<Vec<usize>>::new(), 0);
    for (index, size) in files {
        match forms.last_mut().filter(|form| form.len() < files_max && bytes + size <= FORM_BYTES_MAX) {
            Some(form) => {
                form.push(*index);
                bytes += size;
            }
            None => {
                forms.push(vec![*index]);
                bytes = *size;
            }
        }
    }
    forms
}

fn fits_put(changes: &[Change], paths: &[RepoPath], info: &CommitInfo) -> bool {
    let one_dir = paths.windows(2).all(|pair| pair[0].dir() == pair[1].dir());
    let names = paths.iter().all(|path| fits_put_name(path.name()));
    let sizes: Option<Vec<usize>> = changes
        .iter()
        .map(|change| match change.kind {
            ChangeKind::Put { signature, .. } => usize::try_from(signature.size).ok(),
            ChangeKind::Remove => None,
        })
        .collect();
    one_dir && names && sizes.is_some_and(|sizes| put_form_len(sizes, info) <= PUT_FORM_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::planner::tests::{put, remove};
    use super::*;
    use proptest::prelude::*;

    fn info() -> CommitInfo {
        CommitInfo { message: "m".into(), name: "n".into(), email: "e".into() }
    }

    fn path_of(change: &Change) -> RepoPath {
        RepoPath::for_file(&RepoPath::root(), &change.path).unwrap()
    }

    fn paths(changes: &[Change]) -> Vec<RepoPath> {
        changes.iter().map(path_of).collect()
    }

    fn fits(changes: &[Change]) -> bool {
        fits_put(changes, &paths(changes), &info())
    }

    #[test]
    fn a_put_carries_only_what_it_leaves_unharmed() {
        assert!(fits(&[put("d/a", 1), put("d/b", 0)]));
        assert!(!fits(&[put("d/a", 1), put("e/b", 1)]), "two directories");
        assert!(!fits(&[put("d/12:30.csv", 1)]), "a name that it changes");
        assert!(!fits(&[put("d/a", 1), remove("d/b")]), "a removal");
        let max = PUT_FORM_MAX as u64 - 3;
        assert!(fits(&[put("a", max)]));
        assert!(!fits(&[put("a", max + 1)]));
        let many: Vec<_> = (0..=PUT_FILES_MAX).map(|n| put(&n.to_string(), 1)).collect();
        let (groups, rest) = groups_for_put(many, path_of, &info());
        assert_eq!((groups.iter().map(Vec::len).collect(), rest), (vec![PUT_FILES_MAX, 1], Vec::new()));
    }

    #[test]
    fn requests_fit_what_they_carry() {
        let changes = [
            put("small", 10),
            put("empty", 0),
            put("large", SMALL_FILE_MAX + 1),
            put("new\nline", 10),
            put("empty\nline", 0),
            put("known", ASK_MIN),
            remove("gone"),
            remove("dir"),
            put("dir/file", 1),
        ];
        let sorted = requests(&changes, &paths(&changes), |xxh3| xxh3 == u128::from(ASK_MIN));
        assert_eq!(sorted.forms, [vec![0, 1, 8]]);
        assert_eq!(sorted.uploads, [2, 3, 5]);
        assert_eq!(sorted.unsendable, [4]);
        assert_eq!(sorted.removals, [6]);
        assert_eq!(sorted.replaced, [7]);
    }

    #[test]
    fn what_is_late_goes_apart() {
        let changes = [
            put("a", 1),
            put("b", 1),
            put("large a", SMALL_FILE_MAX + 1),
            put("large b", SMALL_FILE_MAX + 1),
        ];
        let mut sorted = requests(&changes, &paths(&changes), |_| false);
        let late = sorted.split_off(|index| index == 1 || index == 3);
        assert_eq!((sorted.forms, sorted.uploads), (vec![vec![0]], vec![2]));
        assert_eq!((late.forms, late.uploads), (vec![vec![1]], vec![3]));
    }

    #[test]
    fn forms_are_bounded_and_a_few_go_side_by_side() {
        let lens = |count: usize, size: u64| -> Vec<usize> {
            let changes: Vec<_> = (0..count).map(|n| put(&n.to_string(), size)).collect();
            requests(&changes, &paths(&changes), |_| false).forms.iter().map(Vec::len).collect()
        };
        assert_eq!(lens(1200, 1), [125; 9].into_iter().chain([75]).collect::<Vec<_>>());
        assert_eq!(lens(9, SMALL_FILE_MAX), [4, 4, 1]);
        assert_eq!(lens(25, 1), [25]);
        assert_eq!(lens(60, 1), [25, 25, 10]);
        assert_eq!(lens(400, 1), [100; 4]);
        assert_eq!(lens(0, 1), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn no_change_is_lost_on_the_way_to_a_put(
            files in prop::collection::vec(("[ab]/[a-z:]{1,3}", 0..3_000_000_u64), 0..60)
        ) {
            let changes: Vec<_> = files.iter().map(|(path, size)| put(path, *size)).collect();
            let (groups, rest) = groups_for_put(changes.clone(), path_of, &info());
            for group in &groups {
                prop_assert!(!group.is_empty() && fits_put(group, &paths(group), &info()));
            }
            for change in &rest {
                prop_assert!(!fits_put(std::slice::from_ref(change), &[path_of(change)], &info()));
            }
            prop_assert_eq!(groups.concat().len() + rest.len(), changes.len());
        }
    }
}
