//! Every key there is, by table: what the reader accepts, what a misspelt key is compared with, and what the
//! reference file must explain.

pub(super) const TOP: &[&str] =
    &["state_dir", "control", "page", "author", "server", "servers", "defaults", "folder"];

pub(super) const CONTROL: &[&str] = &["group", "socket"];

pub(super) const PAGE: &[&str] = &["listen", "allow_network", "key_file"];

pub(super) const AUTHOR: &[&str] = &["name", "email"];

pub(super) const SERVER: &[&str] = &[
    "url",
    "allow_http",
    "proxy",
    "ca_file",
    "connect_timeout",
    "request_timeout",
    "concurrency",
    "bandwidth",
    "key_file",
];

pub(super) const FOLDER: &[&str] = &[
    "path",
    "repo",
    "server",
    "branch",
    "create_branch_from",
    "create_repo",
    "description",
    "remote_dir",
    "remote_path",
    "include",
    "exclude",
    "default_excludes",
    "max_file_size",
    "settle",
    "batch",
    "rescan_interval",
    "priority",
    "upload_window",
    "transport",
    "on_delete",
    "delete_brake",
    "after_push",
    "message",
];

/// Everything of a folder but `path` and `repo`, which no two folders share.
pub(super) const DEFAULTS: &[&str] = FOLDER.split_at(2).1;

pub(super) const SETTLE: &[&str] = &["quiet", "max_wait"];

pub(super) const BATCH: &[&str] = &["quiet", "max_wait", "max_files", "max_bytes", "marker"];

pub(super) const DELETE_BRAKE: &[&str] = &["share", "files"];

pub(super) const AFTER_PUSH: &[&str] = &["do", "min_age", "move_to"];

/// The tables as a person would name them.
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("the top of the file", TOP),
    ("[control]", CONTROL),
    ("[page]", PAGE),
    ("[author]", AUTHOR),
    ("[server]", SERVER),
    ("[[folder]]", FOLDER),
    ("settle", SETTLE),
    ("batch", BATCH),
    ("delete_brake", DELETE_BRAKE),
    ("after_push", AFTER_PUSH),
];

/// What to say about a key that the table with the keys `known` does not have.
pub(super) fn help_for_unknown(key: &str, known: &[&str]) -> String {
    if looks_secret(key) {
        return "the API key does not belong in this file; put it in a file that only the service can read and \
                name that file with `key_file` in [server]"
            .to_owned();
    }
    if let Some(near) = nearest(key, known) {
        return format!("did you mean `{near}`?");
    }
    let homes: Vec<_> =
        TABLES.iter().filter(|(_, keys)| keys.contains(&key)).map(|(table, _)| *table).collect();
    if !homes.is_empty() {
        return format!("`{key}` belongs in {}", homes.join(" or "));
    }
    if known.is_empty() {
        return "remove it".to_owned();
    }
    format!("the keys here are {}", known.join(", "))
}

/// The word of `known` that `word` was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether a value under this key may be a secret and must not be shown.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    matches!(key.as_str(), "key" | "auth" | "pass" | "bearer" | "pw")
        || ["api_key", "apikey", "password", "passwd", "secret", "token", "credential"]
            .iter()
            .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_name() {
        let table = [
            ("exlude", FOLDER, Some("exclude")),
            ("on-delete", FOLDER, Some("on_delete")),
            ("Branch", FOLDER, Some("branch")),
            ("folders", TOP, Some("folder")),
            ("urll", SERVER, Some("url")),
            ("colour", FOLDER, None),
        ];
        for (typed, known, meant) in table {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn no_key_of_ours_is_taken_for_a_secret() {
        for (_, keys) in TABLES {
            assert!(!keys.iter().any(|key| looks_secret(key)), "{keys:?}");
        }
        for key in ["api_key", "Api-Key", "token", "auth_token", "password", "key"] {
            assert!(looks_secret(key), "{key}");
        }
    }
}
