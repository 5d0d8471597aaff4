//! The config that the answers make.

use std::path::PathBuf;

/// What was answered so far.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) url: String,
    pub(super) allow_http: bool,
    pub(super) key_file: Option<PathBuf>,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) folder: PathBuf,
    pub(super) repo: String,
    pub(super) branch: String,
    pub(super) create_branch_from: Option<String>,
    pub(super) remote_dir: String,
}

impl Answers {
    /// A config that is right if the server is: everything else stands for what is not answered yet.
    pub(super) fn draft(&self) -> String {
        Self {
            url: self.url.clone(),
            allow_http: self.allow_http,
            key_file: self.key_file.clone(),
            name: "rig".to_owned(),
            email: "rig@lab.example".to_owned(),
            folder: PathBuf::from("/data"),
            repo: "lab/data".to_owned(),
            branch: "main".to_owned(),
            create_branch_from: None,
            remote_dir: String::new(),
        }
        .text()
    }

    /// The config, with a comment for each part.
    pub(super) fn text(&self) -> String {
        let quoted = |text: &str| toml_edit::Value::from(text).to_string().trim().to_owned();
        let allow_http = if self.allow_http {
            "\n# Everyone on the way can read and change what is sent, and read the API key.\nallow_http = true"
        } else {
            ""
        };
        let key_file = match &self.key_file {
            Some(file) => format!("\nkey_file = {}", quoted(&file.to_string_lossy())),
            None => String::new(),
        };
        let from = match &self.create_branch_from {
            Some(from) => format!("\ncreate_branch_from = {}", quoted(from)),
            None => String::new(),
        };
        let remote_dir = match self.remote_dir.as_str() {
            "" => String::new(),
            dir => format!("\n# Where the folder stands on the branch.\nremote_dir = {}", quoted(dir)),
        };
        format!(
            "\
# The config of oxen-sync. A running service takes a change within two seconds; a file with a mistake changes nothing,
# and log and `oxen-sync status` show the line. `oxen-sync check` tries it.

# The Oxen server.
[server]
url = {}{allow_http}{key_file}

# Who signs the commits.
[author]
name = {}
email = {}

# A folder to watch. For more of them: more of these tables, or `oxen-sync add`.
[[folder]]
path = {}
repo = {}
branch = {}{from}{remote_dir}
# \"keep\": the branch is an archive, and keeps what is deleted here. \"mirror\": it goes from the branch too.
on_delete = \"keep\"
# A file is finished when it was not touched for this long and no program has it open for writing.
settle.quiet = \"2s\"
",
            quoted(&self.url),
            quoted(&self.name),
            quoted(&self.email),
            quoted(&self.folder.to_string_lossy()),
            quoted(&self.repo),
            quoted(&self.branch),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Env};
    use crate::oxen::BranchName;
    use std::path::Path;

    #[test]
    fn any_answers_make_a_config_that_says_what_was_answered() {
        let answers = Answers {
            url: "http://rig.lab:3000".to_owned(),
            allow_http: true,
            key_file: Some("/etc/key \"1\"".into()),
            name: "the \"rig\" \\ 7".to_owned(),
            email: "rig@lab.example".to_owned(),
            folder: "/data/größe 'x'".into(),
            repo: "lab/cells".to_owned(),
            branch: "rig/7".to_owned(),
            create_branch_from: Some("main".to_owned()),
            remote_dir: "a b/c".to_owned(),
        };
        let env = Env { home: Some("/root".into()), ..Env::default() };
        let config = config::parse(&answers.text(), Path::new("/x.toml"), &env).unwrap();
        let folder = &config.folders[0];
        assert_eq!(
            (config.author.name.as_str(), folder.path.as_path()),
            (answers.name.as_str(), answers.folder.as_path())
        );
        assert_eq!((folder.branch.as_str(), folder.remote_dir.as_str()), ("rig/7", "a b/c"));
        assert_eq!(folder.create_branch_from.as_ref().map(BranchName::as_str), Some("main"));
        assert_eq!(folder.server.key_file.as_deref(), answers.key_file.as_deref());
        config::parse(&answers.draft(), Path::new("/x.toml"), &env).unwrap();
    }
}
