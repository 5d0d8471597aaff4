//! What has to happen when the file changed: pure, so that a reload can be tested as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use super::{Config, Folder, Page};
use crate::oxen::{BranchName, RepoName};
use crate::path::{RepoPath, printable};

/// What makes a folder the same one in two versions of the file. Unique in a [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderId {
    /// The watched folder.
    pub path: PathBuf,
    /// The server's URL; its name may change.
    pub server: Url,
    /// The repository.
    pub repo: RepoName,
    /// The branch.
    pub branch: BranchName,
    /// The directory of the repository.
    pub remote_dir: RepoPath,
}

/// `PATH → NAMESPACE/NAME@BRANCH`, with `:DIR` at the end unless that is the repository's root.
impl fmt::Display for FolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}@{}", printable(&self.path), self.repo, self.branch)?;
        if !self.remote_dir.is_root() {
            write!(f, ":{}", printable(self.remote_dir.as_str()))?;
        }
        Ok(())
    }
}

impl FolderId {
    /// The same in one line with the server, for storing: never two of one key.
    pub fn key(&self) -> String {
        format!("{self} at {}", self.server)
    }
}

/// The way from one config to the next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// Folders that were not there, in the file's order.
    pub start: Vec<Folder>,
    /// Folders that are gone.
    pub stop: Vec<FolderId>,
    /// Folders whose settings, server or author are others, as they are to be, in the file's order.
    pub restart: Vec<Folder>,
    /// Folders whose work goes on as it is.
    pub keep: Vec<FolderId>,
    /// Whether folders that go on are to keep to another timetable: another bandwidth or other windows.
    pub timetables: bool,
    /// Set when the page is to be another: what it is to be from now on.
    pub page: Option<Option<Page>>,
    /// Set when the state directory changed, which takes effect only when the service is restarted.
    pub state_dir: Option<StateDirMove>,
}

/// A changed state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirMove {
    /// The one in use until the restart.
    pub from: PathBuf,
    /// The one that the file names.
    pub to: PathBuf,
}

impl fmt::Display for StateDirMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the state directory stays {} until the service is restarted; then it is {}",
            printable(&self.from),
            printable(&self.to)
        )
    }
}

impl Change {
    /// Whether the running service has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.start.is_empty()
            && self.stop.is_empty()
            && self.restart.is_empty()
            && !self.timetables
            && self.page.is_none()
            && self.state_dir.is_none()
    }
}

/// What has to happen for a service that runs `old` to run `new`.
pub fn diff(old: &Config, new: &Config) -> Change {
    let mut gone: BTreeMap<FolderId, &Folder> =
        old.folders.iter().map(|folder| (folder.id(), folder)).collect();
    let mut change = Change::default();
    for folder in &new.folders {
        let id = folder.id();
        match gone.remove(&id) {
            None => change.start.push(folder.clone()),
            Some(before) if before == folder && old.author == new.author => change.keep.push(id),
            Some(before)
                if before.without_timetables() == folder.without_timetables() && old.author == new.author =>
            {
                change.timetables = true;
                change.keep.push(id);
            }
            Some(_) => change.restart.push(folder.clone()),
        }
    }
    change.stop = gone.into_keys().collect();
    change.page = (old.page != new.page).then(|| new.page.clone());
    if old.state_dir != new.state_dir {
        change.state_dir = Some(StateDirMove { from: old.state_dir.clone(), to: new.state_dir.clone() });
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};
    use std::path::Path;

    const OLD: &str = r#"
state_dir = "/var/lib/oxen-sync"
[server]
url = "http://localhost:3000"
[servers.hub]
url = "https://hub.oxen.ai"
[author]
name = "rig"
email = "rig@lab.example"
[defaults]
remote_dir = "d"
[[folder]]
path = "/a"
repo = "lab/a1"
[[folder]]
path = "/b"
repo = "lab/b1"
server = "hub"
"#;

    fn config(text: &str) -> Config {
        parse(text, Path::new("/etc/oxen-sync.toml"), &Env::default()).unwrap()
    }

    /// The change as a line: what starts (+), stops (-), restarts (~) and stays (=).
    fn shown(new: &str) -> String {
        let change = diff(&config(OLD), &config(new));
        let mut words = Vec::new();
        words.extend(change.start.iter().map(|folder| format!("+{}", printable(&folder.path))));
        words.extend(change.stop.iter().map(|id| format!("-{}", printable(&id.path))));
        words.extend(change.restart.iter().map(|folder| format!("~{}", printable(&folder.path))));
        words.extend(change.keep.iter().map(|id| format!("={}", printable(&id.path))));
        words.extend(change.timetables.then(|| "%".to_owned()));
        words.extend(change.page.map(|page| page.map_or("@".to_owned(), |page| format!("@{}", page.listen))));
        words.extend(change.state_dir.map(|moved| format!("!{}", printable(&moved.to))));
        words.join(" ")
    }

    #[test]
    fn a_reload_changes_only_what_changed() {
        let more = format!("{OLD}[[folder]]\npath = \"/c\"\nrepo = \"lab/c1\"\n");
        let less = OLD.split_once("[[folder]]\npath = \"/b\"").unwrap().0;
        let swapped = {
            let (head, b) = OLD.split_once("[[folder]]\npath = \"/b\"").unwrap();
            let (head, a) = head.split_once("[[folder]]").unwrap();
            format!("{head}[[folder]]\npath = \"/b\"{b}[[folder]]{a}")
        };
        let table: &[(&str, String, &str)] = &[
            ("nothing", OLD.to_owned(), "=/a =/b"),
            ("a comment", format!("# note\n{OLD}"), "=/a =/b"),
            ("the order", swapped, "=/b =/a"),
            ("a folder more", more, "+/c =/a =/b"),
            ("a folder less", less.to_owned(), "-/b =/a"),
            (
                "a default written out",
                OLD.replace("path = \"/a\"", "path = \"/a\"\nbranch = \"main\""),
                "=/a =/b",
            ),
            ("a setting", OLD.replace("path = \"/a\"", "path = \"/a\"\non_delete = \"mirror\""), "~/a =/b"),
            ("a default", OLD.replace("remote_dir", "settle.quiet = \"9s\"\nremote_dir"), "~/a ~/b"),
            ("a repository", OLD.replace("lab/a1", "lab/a2"), "+/a -/a =/b"),
            ("a branch", OLD.replace("\"/b\"", "\"/b\"\nbranch = \"x\""), "+/b -/b =/a"),
            ("a remote_dir for all", OLD.replace("\"d\"", "\"e\""), "+/a +/b -/a -/b"),
            ("the author", OLD.replace("name = \"rig\"", "name = \"gir\""), "~/a ~/b"),
            ("one server's timeout", OLD.replace(".ai\"", ".ai\"\nconnect_timeout = \"3s\""), "~/b =/a"),
            ("one server's URL", OLD.replace("hub.oxen.ai", "hub.lab"), "+/b -/b =/a"),
            ("one server's bandwidth", OLD.replace(".ai\"", ".ai\"\nbandwidth = \"1MiB\""), "=/a =/b %"),
            (
                "a window",
                OLD.replace("remote_dir", "upload_window = [\"18:00-08:00\"]\nremote_dir"),
                "=/a =/b %",
            ),
            ("a page", format!("{OLD}[page]\nlisten = \"127.0.0.1:7710\"\n"), "=/a =/b @127.0.0.1:7710"),
            ("the state directory", OLD.replace("/var/lib", "/srv"), "=/a =/b !/srv/oxen-sync"),
        ];
        for (what, new, change) in table {
            assert_eq!(shown(new), *change, "{what}");
        }
    }

    #[test]
    fn an_unchanged_file_changes_nothing() {
        assert!(diff(&config(OLD), &config(OLD)).is_empty());
    }

    #[test]
    fn a_folder_is_named_by_where_it_comes_from_and_goes_to() {
        let config = config(OLD);
        assert_eq!(config.folders[0].id().to_string(), "/a → lab/a1@main:d");
        let root = FolderId { remote_dir: RepoPath::root(), path: "/a\nb".into(), ..config.folders[1].id() };
        assert_eq!(root.to_string(), "/a\\nb → lab/b1@main");
        assert_eq!(root.key(), "/a\\nb → lab/b1@main at https://hub.oxen.ai/");
    }
}
