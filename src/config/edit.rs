//! Edits of the config file that leave everything else in it as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value, value};

use crate::oxen::{BranchName, RepoName};
use crate::path::{RepoPath, printable};

/// A folder to add to a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFolder {
    /// The folder, absolute.
    pub path: PathBuf,
    /// The name of the server, if not the one in `[server]`.
    pub server: Option<String>,
    /// The repository.
    pub repo: RepoName,
    /// The branch, if not the default one.
    pub branch: Option<BranchName>,
    /// The directory of the repository, if not the default one.
    pub remote_dir: Option<RepoPath>,
}

/// Why a folder cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file has to be mended by hand first.
    #[error("the config is not TOML; `oxen-sync check` shows where")]
    NotToml,
    /// `folder` is something else than a list of tables.
    #[error("`folder` is not a list of tables; write each folder under a [[folder]] of its own")]
    NotAList,
    /// TOML is UTF-8.
    #[error("the path {0} is not UTF-8, and a config file cannot hold it")]
    NotUtf8(String),
}

/// `text` with `new` in it. Every other byte stays where it was, comments and layout included; whether the result
/// is a good config is for [`super::parse`] to say.
///
/// # Errors
/// The text cannot be edited safely, or TOML cannot hold the path.
pub fn add_folder(text: &str, new: &NewFolder) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|_| EditError::NotToml)?;
    let table = new.to_table()?;
    match document.get_mut("folder") {
        None | Some(Item::ArrayOfTables(_)) => Ok(append(text, table)),
        // `folder = [{ … }]`: the entry has to go into the brackets.
        Some(Item::Value(Value::Array(list))) if list.iter().all(Value::is_inline_table) => {
            list.push(table.into_inline_table());
            Ok(document.to_string())
        }
        Some(_) => Err(EditError::NotAList),
    }
}

/// A `[[folder]]` at the end of a file is part of the list wherever the others stand.
fn append(text: &str, table: Table) -> String {
    let mut list = ArrayOfTables::new();
    list.push(table);
    let mut addition = DocumentMut::new();
    addition.insert("folder", Item::ArrayOfTables(list));
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let addition = addition.to_string();
    let mut edited = text.to_owned();
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push_str(newline);
    }
    if !edited.trim().is_empty() && !edited.ends_with(&newline.repeat(2)) {
        edited.push_str(newline);
    }
    for line in addition.trim().lines() {
        edited.push_str(line);
        edited.push_str(newline);
    }
    edited
}

impl NewFolder {
    fn to_table(&self) -> Result<Table, EditError> {
        let path = self.path.to_str().ok_or_else(|| EditError::NotUtf8(printable(&self.path)))?;
        let mut table = Table::new();
        table.insert("path", text(path));
        if let Some(server) = &self.server {
            table.insert("server", text(server));
        }
        table.insert("repo", text(&self.repo.to_string()));
        if let Some(branch) = &self.branch {
            table.insert("branch", text(branch.as_str()));
        }
        if let Some(dir) = &self.remote_dir {
            table.insert("remote_dir", text(dir.as_str()));
        }
        Ok(table)
    }
}

/// A string on one line: lines of the addition are taken apart and must not be those of a string.
fn text(text: &str) -> Item {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"").parse::<Value>().map_or_else(|_| value(text), Item::Value)
}

/// Why a file was not replaced. It is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot replace {}: {what}: {why}", printable(file))]
pub struct WriteError {
    file: PathBuf,
    what: &'static str,
    why: io::Error,
}

/// Replaces the content of the existing file `path` by `text`: whoever reads it sees the old content or the new
/// one, also after a power failure. Mode and owner stay; a symbolic link stays and what it leads to is replaced.
/// Access lists and further hard links are not carried over.
///
/// # Errors
/// Any step that failed, with the file as it was.
pub fn write_atomically(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |what| move |why| WriteError { file: path.to_owned(), what, why };
    let target = fs::canonicalize(path).map_err(failed("cannot find it"))?;
    let before = fs::metadata(&target).map_err(failed("cannot read its mode"))?;
    if !before.is_file() {
        let why = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(failed("it is not a regular file")(why));
    }
    let (Some(dir), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(failed("it has no directory")(io::Error::from(io::ErrorKind::InvalidInput)));
    };
    let mut temp_name = std::ffi::OsString::from(".");
    temp_name.push(name);
    temp_name.push(format!(".{}.tmp", std::process::id()));
    let temp = dir.join(temp_name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)
        .map_err(failed("cannot make a file beside it"))?;
    let replaced = fill(&mut file, text, &before)
        .and_then(|()| fs::rename(&temp, &target).map_err(|why| ("cannot put the file in place", why)));
    if let Err((what, why)) = replaced {
        // Nothing more can be done about a file that cannot be removed either.
        let _ = fs::remove_file(&temp);
        return Err(failed(what)(why));
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("cannot sync its directory"))
}

fn fill(file: &mut File, text: &str, before: &fs::Metadata) -> Result<(), (&'static str, io::Error)> {
    file.write_all(text.as_bytes()).map_err(|why| ("cannot write the file beside it", why))?;
    let own = file.metadata().map_err(|why| ("cannot read the owner of the file beside it", why))?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        std::os::unix::fs::fchown(&*file, Some(before.uid()), Some(before.gid()))
            .map_err(|why| ("cannot keep its owner", why))?;
    }
    // After the owner: changing that clears bits of the mode.
    file.set_permissions(before.permissions()).map_err(|why| ("cannot keep its mode", why))?;
    file.sync_all().map_err(|why| ("cannot sync the file beside it", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    const CONFIG: &str = "# ours\n[server]\nurl  =  'http://localhost:3000' # rack 3\n\
        [author]\nname = \"rig\"\nemail = \"rig@lab.example\"\n\n[[folder]] # first\npath = \"/a\"\nrepo = \"lab/a1\"\n";

    fn new_folder(path: &str) -> NewFolder {
        NewFolder {
            path: path.into(),
            server: None,
            repo: "lab/cells".parse().unwrap(),
            branch: Some("rig/7".parse().unwrap()),
            remote_dir: Some(RepoPath::parse("ca\"m").unwrap()),
        }
    }

    fn env() -> Env {
        Env { home: Some("/home/u".into()), ..Env::default() }
    }

    #[test]
    fn an_added_folder_stands_at_the_end_and_nothing_else_moves() {
        let edited = add_folder(CONFIG, &new_folder("/data/camera")).unwrap();
        let addition = "\n[[folder]]\npath = \"/data/camera\"\nrepo = \"lab/cells\"\nbranch = \"rig/7\"\n\
            remote_dir = \"ca\\\"m\"\n";
        assert_eq!(edited, format!("{CONFIG}{addition}"));
        let crlf = add_folder(&CONFIG.replace('\n', "\r\n"), &new_folder("/data/camera")).unwrap();
        assert_eq!(crlf, edited.replace('\n', "\r\n"));
        let unended = add_folder(CONFIG.trim_end(), &new_folder("/data/camera")).unwrap();
        assert_eq!(unended, edited);
        let last_is_another = format!("{CONFIG}\n[defaults]\nbranch = \"x\"\n# the end\n");
        let edited = add_folder(&last_is_another, &new_folder("/data/camera")).unwrap();
        assert_eq!(edited, format!("{last_is_another}{addition}"));
        let first = add_folder("", &new_folder("/data/camera")).unwrap();
        assert_eq!(first, addition.trim_start());
    }

    #[test]
    fn a_list_in_brackets_stays_one() {
        let text = "folder = [ { path = \"/a\", repo = \"lab/a1\" } ] # all\n[author]\nname = 'x'\n";
        let edited = add_folder(text, &new_folder("/b")).unwrap();
        assert!(edited.starts_with("folder = [ { path = \"/a\", repo = \"lab/a1\" }"), "{edited}");
        assert!(edited.ends_with("] # all\n[author]\nname = 'x'\n"), "{edited}");
        assert_eq!(edited.matches("path =").count(), 2, "{edited}");
    }

    #[test]
    fn a_config_that_cannot_be_edited_is_refused() {
        let new = new_folder("/b");
        assert_eq!(add_folder("[[folder]\n", &new), Err(EditError::NotToml));
        assert_eq!(add_folder("[folder]\npath = \"/a\"\n", &new), Err(EditError::NotAList));
        assert_eq!(add_folder("folder = 3\n", &new), Err(EditError::NotAList));
        let path = std::os::unix::ffi::OsStringExt::from_vec(b"/\xff".to_vec());
        let not_utf8 = NewFolder { path: std::ffi::OsString::into(path), ..new };
        assert_eq!(add_folder(CONFIG, &not_utf8), Err(EditError::NotUtf8("/\\xff".to_owned())));
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_owner_and_through_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        // Only root can give a file away; anyone else checks that its own file stays its own.
        let _ = std::os::unix::fs::chown(&file, Some(4321), Some(4321));
        let before = fs::metadata(&file).unwrap();
        write_atomically(&link, "new").unwrap();
        let after = fs::metadata(&file).unwrap();
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.toml");
        let error = write_atomically(&missing, "new").unwrap_err().to_string();
        assert!(error.contains("missing.toml: cannot find it"), "{error}");
        assert!(write_atomically(dir.path(), "new").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn any_path_is_added_as_it_is(name in "[^/\0]{1,20}") {
            prop_assume!(name != "." && name != "..");
            let path = format!("/data/{name}");
            let edited = add_folder(CONFIG, &new_folder(&path)).unwrap();
            prop_assert!(edited.starts_with(CONFIG));
            let config = parse(&edited, Path::new("/etc/oxen-sync.toml"), &env());
            let Ok(config) = config else { return Err(TestCaseError::fail(config.unwrap_err().to_string())) };
            prop_assert_eq!(&config.folders[1].path, Path::new(&path));
        }
    }
}
