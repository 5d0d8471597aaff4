//! Where the API key comes from.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Env, Server, SmallFileError, read_small};
use crate::path::{printable, shell_word};

/// An API key. It has no `Display`, and its `Debug` tells nothing.
///
/// Invariant: not empty; visible ASCII only, so that it fits into a header.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key itself, for the `Authorization` header and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key in `text`; line ends after it are forgiven.
    fn new(text: &[u8]) -> Result<Self, KeyFault> {
        let text = std::str::from_utf8(text).map_err(|_| KeyFault::Characters)?;
        let key = text.trim_end_matches(['\n', '\r']);
        if key.is_empty() {
            return Err(KeyFault::Empty);
        }
        if !key.chars().all(|c| c.is_ascii_graphic()) {
            return Err(KeyFault::Characters);
        }
        Ok(Self(key.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// Where a key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A systemd credential, by its name.
    Credential(String),
    /// The server's `key_file`.
    KeyFile(PathBuf),
    /// The variable `OXEN_API_KEY`.
    Environment,
    /// The settings of the Oxen CLI.
    OxenCli(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "systemd credential {name}"),
            Self::KeyFile(path) => write!(f, "key_file {}", printable(path)),
            Self::Environment => f.write_str("OXEN_API_KEY"),
            Self::OxenCli(path) => write!(f, "the Oxen CLI's {}", printable(path)),
        }
    }
}

/// Why a place that is there holds no usable key. The search ends here: going on to the next place would use a
/// key that nobody meant.
#[derive(Debug, thiserror::Error)]
#[error("cannot take the API key from {source_of_key}: {fault}")]
pub struct KeyError {
    source_of_key: KeySource,
    fault: KeyFault,
}

impl KeyError {
    /// The place.
    pub fn place(&self) -> &KeySource {
        &self.source_of_key
    }
}

#[derive(Debug, thiserror::Error)]
enum KeyFault {
    #[error("{0}")]
    File(#[from] SmallFileError),
    #[error("others can read or change it (mode {mode:04o}); run: chmod 600 {path}")]
    Open { mode: u32, path: String },
    #[error("others can change it (mode {mode:04o}); run: chmod 600 {path}")]
    Writable { mode: u32, path: String },
    #[error(
        "it belongs to user {owner}, who is neither root nor the one that runs this command; run the command as that user, \
         as the service does, or, if user {us} is to have the key, run: chown {us} {path}"
    )]
    Foreign { owner: u32, us: u32, path: String },
    #[error("it is empty")]
    Empty,
    #[error(
        "its key is shorter than {PAGE_KEY_LEN_MIN} characters, and could be guessed; run: openssl rand -hex 16 >{path}"
    )]
    Short { path: String },
    #[error("it holds a space, a control character or a letter that no key has")]
    Characters,
    #[error("it is not what the Oxen CLI writes; run: oxen config --auth HOST TOKEN")]
    NotAuthConfig,
}

/// The key for `server`, and where it was found; `None` if no place has one, which suits a server that asks for
/// none.
///
/// The places, in order:
/// 1. the systemd credential `oxen-api-key` for the server in `[server]`, `oxen-api-key-NAME` for `[servers.NAME]`;
/// 2. the server's `key_file`, a regular file of root or of our own that group and others can neither read nor write. A
///    symbolic link is followed, as secret stores often use one; the file that it leads to is what is checked;
/// 3. `OXEN_API_KEY`, for the server in `[server]` alone: a variable names no server, and a key must not go to one
///    it was not meant for;
/// 4. the Oxen CLI's `auth_config.toml`, the entry whose host is that of the server's URL, with the port unless it
///    is the scheme's own (liboxen 0.65.2). A home directory that cannot be looked into counts as empty. The CLI makes
///    the file readable to all, so that is not refused, but that others can write it is.
///
/// # Errors
/// The first place that has something has no usable key.
pub fn find_key(server: &Server, env: &Env) -> Result<Option<(ApiKey, KeySource)>, KeyError> {
    if let Some(dir) = &env.credentials_directory {
        let name = if server.is_default() {
            "oxen-api-key".to_owned()
        } else {
            format!("oxen-api-key-{}", server.name)
        };
        // Who may read it is systemd's matter: it gives a service's user access by an ACL.
        let key = match read_small(&dir.join(&name), LEN_MAX) {
            Err(SmallFileError::Io(why)) if why.kind() == io::ErrorKind::NotFound => None,
            Err(fault) => Some(Err(fault.into())),
            Ok((bytes, _)) => Some(ApiKey::new(&bytes)),
        };
        if let Some(key) = key {
            return found(key, KeySource::Credential(name));
        }
    }
    if let Some(path) = &server.key_file {
        return found(read_key_file(path), KeySource::KeyFile(path.clone()));
    }
    if server.is_default()
        && let Some(key) = &env.oxen_api_key
    {
        return found(ApiKey::new(key.as_encoded_bytes()), KeySource::Environment);
    }
    let dir = env.oxen_config_dir.clone().or_else(|| Some(env.home.as_ref()?.join(".config/oxen")));
    let Some(path) = dir.map(|dir| dir.join("auth_config.toml")) else { return Ok(None) };
    match read_oxen_cli(&path, server) {
        Ok(None) => Ok(None),
        Ok(Some(key)) => Ok(Some((key, KeySource::OxenCli(path)))),
        Err(fault) => found(Err(fault), KeySource::OxenCli(path)),
    }
}

fn found(
    key: Result<ApiKey, KeyFault>,
    source_of_key: KeySource,
) -> Result<Option<(ApiKey, KeySource)>, KeyError> {
    match key {
        Ok(key) => Ok(Some((key, source_of_key))),
        Err(fault) => Err(KeyError { source_of_key, fault }),
    }
}

/// Why a page's key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot take the key of the page from page.key_file {path}: {fault}")]
pub struct PageKeyError {
    path: String,
    fault: KeyFault,
}

/// The key of the page: what whoever steers the service from a browser must show. The file is held to the same rules as a
/// server's `key_file`.
///
/// # Errors
/// The file cannot be read, others can read it, or what it holds is no key or too short a one.
pub fn read_page_key(path: &Path) -> Result<ApiKey, PageKeyError> {
    let key = read_key_file(path).and_then(|key| {
        let is_long = key.expose().len() >= PAGE_KEY_LEN_MIN;
        if is_long { Ok(key) } else { Err(KeyFault::Short { path: shell_word(path) }) }
    });
    key.map_err(|fault| PageKeyError { path: printable(path).to_string(), fault })
}

/// A key that anyone on the machine may try as often as they like must have so many characters at least.
const PAGE_KEY_LEN_MIN: usize = 16;
/// The longest file that may hold a key.
const LEN_MAX: u64 = 64 << 10;

fn read_key_file(path: &Path) -> Result<ApiKey, KeyFault> {
    let (bytes, metadata) = read_small(path, LEN_MAX)?;
    check_owner(path, &metadata, rustix::process::geteuid().as_raw())?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFault::Open { mode, path: shell_word(path) });
    }
    ApiKey::new(&bytes)
}

/// A file's owner can give and take rights to it at will.
fn check_owner(path: &Path, metadata: &Metadata, us: u32) -> Result<(), KeyFault> {
    let owner = metadata.uid();
    if owner == us || owner == 0 {
        Ok(())
    } else {
        Err(KeyFault::Foreign { owner, us, path: shell_word(path) })
    }
}

/// `auth_config.toml` as liboxen 0.65.2 writes it; what else is in it does not matter.
#[derive(Deserialize)]
struct AuthConfig {
    #[serde(default)]
    host_configs: Vec<HostConfig>,
}

#[derive(Deserialize)]
struct HostConfig {
    host: String,
    auth_token: Option<String>,
}

fn read_oxen_cli(path: &Path, server: &Server) -> Result<Option<ApiKey>, KeyFault> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    let (bytes, metadata) = match read_small(path, LEN_MAX) {
        Ok(read) => read,
        Err(SmallFileError::Io(why)) if matches!(why.kind(), NotFound | NotADirectory | PermissionDenied) => {
            return Ok(None);
        }
        Err(fault) => return Err(fault.into()),
    };
    // The parser's own message would show the line, and with it perhaps a key.
    let config: AuthConfig = toml::from_slice(&bytes).map_err(|_| KeyFault::NotAuthConfig)?;
    let mut host = server.url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = server.url.port() {
        host = format!("{host}:{port}");
    }
    let entry = config.host_configs.into_iter().find(|entry| entry.host.eq_ignore_ascii_case(&host));
    let Some(token) = entry.and_then(|entry| entry.auth_token) else { return Ok(None) };
    // Only what is used has to be trusted.
    check_owner(path, &metadata, rustix::process::geteuid().as_raw())?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(KeyFault::Writable { mode, path: shell_word(path) });
    }
    ApiKey::new(token.as_bytes()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn server(name: &str, key_file: Option<&Path>) -> Server {
        let text = "[server]\nurl = \"http://localhost:3000\"\n[author]\nname = \"r\"\nemail = \"r@l.e\"\n\
            [[folder]]\npath = \"/a\"\nrepo = \"lab/a1\"\n";
        let env = Env { home: Some("/home/u".into()), ..Env::default() };
        let config = parse(text, Path::new("/c.toml"), &env).unwrap();
        let server = (*config.folders[0].server).clone();
        Server { name: name.to_owned(), key_file: key_file.map(Path::to_owned), ..server }
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Every place holds a key; `TempDir` keeps them.
    fn all_places() -> (TempDir, Env, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("cred/oxen-api-key"), "credential\n", 0o400);
        put(&dir.path().join("cred/oxen-api-key-hub"), "hub\r\n", 0o400);
        let key_file = dir.path().join("key");
        put(&key_file, "file\r\n", 0o600);
        put(
            &dir.path().join("home/.config/oxen/auth_config.toml"),
            "default_host = \"hub.oxen.ai\"\n[[host_configs]]\nhost = \"hub.oxen.ai\"\nauth_token = \"x\"\n\
             [[host_configs]]\nhost = \"localhost:3000\"\nauth_token = \"cli\"\n",
            0o644,
        );
        let env = Env {
            home: Some(dir.path().join("home")),
            credentials_directory: Some(dir.path().join("cred")),
            oxen_api_key: Some("variable".into()),
            ..Env::default()
        };
        (dir, env, key_file)
    }

    fn shown(server: &Server, env: &Env) -> String {
        match find_key(server, env).unwrap() {
            Some((key, source)) => format!("{} from {source}", key.expose()),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn the_places_are_asked_in_their_order() {
        let (dir, mut env, key_file) = all_places();
        let with_file = server(Server::DEFAULT_NAME, Some(&key_file));
        let without = server(Server::DEFAULT_NAME, None);
        assert_eq!(shown(&with_file, &env), "credential from systemd credential oxen-api-key");
        fs::remove_file(dir.path().join("cred/oxen-api-key")).unwrap();
        assert_eq!(shown(&with_file, &env), format!("file from key_file {}", printable(&key_file)));
        assert_eq!(shown(&without, &env), "variable from OXEN_API_KEY");
        env.oxen_api_key = None;
        let cli = dir.path().join("home/.config/oxen/auth_config.toml");
        assert_eq!(shown(&without, &env), format!("cli from the Oxen CLI's {}", printable(&cli)));
        env.home = Some(dir.path().join("nobody"));
        assert_eq!(shown(&without, &env), "none");
        env.oxen_config_dir = cli.parent().map(Path::to_owned);
        assert_eq!(shown(&without, &env), format!("cli from the Oxen CLI's {}", printable(&cli)));
    }

    #[test]
    fn a_named_server_gets_only_a_key_that_names_it() {
        let (dir, mut env, _) = all_places();
        assert_eq!(shown(&server("hub", None), &env), "hub from systemd credential oxen-api-key-hub");
        env.home = None;
        assert_eq!(shown(&server("other", None), &env), "none");
        env.home = Some(dir.path().join("home"));
        let elsewhere = Server { url: "http://localhost:3001".parse().unwrap(), ..server("other", None) };
        assert_eq!(shown(&elsewhere, &env), "none");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let (dir, _, key_file) = all_places();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            put(&key_file, "s3cret", mode);
            let error = find_key(&server("x", Some(&key_file)), &Env::default()).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(&format!("mode {mode:04o}")) && text.contains("chmod 600"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&key_file, &link).unwrap();
        assert!(find_key(&server("x", Some(&link)), &Env::default()).is_err());
        put(&key_file, "s3cret", 0o600);
        assert!(find_key(&server("x", Some(&link)), &Env::default()).unwrap().is_some());
    }

    #[test]
    fn the_page_is_opened_by_no_key_that_is_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page key");
        let said = |text: &str, mode| {
            put(&file, text, mode);
            read_page_key(&file).map(|key| key.expose().to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(said("0123456789abcdef\n", 0o600), Ok("0123456789abcdef".to_owned()));
        let short = said("0123456789abcde\n", 0o600).unwrap_err();
        assert!(short.contains("openssl rand") && short.contains("page key'"), "{short}");
        assert!(!short.contains("0123"), "{short}");
        assert!(said("0123456789abcdef\n", 0o644).unwrap_err().contains("chmod 600"));
        assert!(said("", 0o600).unwrap_err().contains("it is empty"));
    }

    #[test]
    fn a_key_file_of_another_user_is_refused() {
        let (_dir, _, key_file) = all_places();
        let metadata = fs::metadata(&key_file).unwrap();
        let owner = metadata.uid();
        assert!(check_owner(&key_file, &metadata, owner).is_ok());
        assert!(check_owner(Path::new("/"), &fs::metadata("/").unwrap(), owner + 1).is_ok(), "root's");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&key_file, Some(12345), None).unwrap();
            let text = find_key(&server("x", Some(&key_file)), &Env::default()).unwrap_err().to_string();
            assert!(text.contains("belongs to user 12345, who is neither root nor"), "{text}");
            assert!(text.ends_with(&format!("run: chown 0 {}", printable(&key_file))), "{text}");
        } else {
            let text = check_owner(&key_file, &metadata, owner + 1).unwrap_err().to_string();
            assert!(text.contains(&format!("belongs to user {owner}")), "{text}");
        }
    }

    #[test]
    fn what_the_oxen_cli_stored_counts_only_where_nobody_else_can_write_it() {
        let (dir, mut env, _) = all_places();
        (env.oxen_api_key, env.credentials_directory) = (None, None);
        let cli = dir.path().join("home/.config/oxen/auth_config.toml");
        for (mode, is_taken) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&cli, fs::Permissions::from_mode(mode)).unwrap();
            let found = find_key(&server(Server::DEFAULT_NAME, None), &env);
            assert_eq!(found.is_ok(), is_taken, "{mode:o}");
            if let Err(error) = found {
                assert!(error.to_string().contains("run: chmod 600 /"), "{error}");
            }
            // What holds nothing for this server harms nobody.
            let mut other = server(Server::DEFAULT_NAME, None);
            other.url = "http://127.0.0.1:3999".parse().unwrap();
            assert!(find_key(&other, &env).unwrap().is_none(), "{mode:o}");
        }
    }

    #[test]
    fn a_key_that_is_no_file_is_refused_at_once() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let (dir, mut env, _) = all_places();
        let at = |name: &str| dir.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zeros")).unwrap();
        for bad in [at("pipe"), at("zeros"), at("cred")] {
            let error = find_key(&server("x", Some(&bad)), &Env::default()).unwrap_err().to_string();
            assert!(error.ends_with("it is not a regular file"), "{error}");
        }
        for name in ["cred/oxen-api-key-pipe", "home/.config/oxen/auth_config.toml"] {
            let _ = fs::remove_file(at(name));
            mknodat(CWD, at(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }
        assert!(find_key(&server("pipe", None), &env).is_err(), "the credential");
        env.credentials_directory = None;
        assert!(find_key(&server("pipe", None), &env).is_err(), "what the Oxen CLI stored");
    }

    #[test]
    fn a_place_without_a_usable_key_is_an_error_and_not_passed_over() {
        let (dir, env, key_file) = all_places();
        for bad in ["", "\n", "a b", "a\nb", "a\r\nb\r\n", "\u{feff}a", "a\0", "ä", "a\u{1b}", " a"] {
            put(&key_file, bad, 0o600);
            let error = find_key(&server("x", Some(&key_file)), &Env::default()).unwrap_err();
            assert!(matches!(error.place(), KeySource::KeyFile(_)), "{bad:?}");
        }
        put(&key_file, &"x".repeat(70_000), 0o600);
        assert!(find_key(&server("x", Some(&key_file)), &Env::default()).is_err());
        assert!(find_key(&server("x", Some(dir.path())), &Env::default()).is_err());
        assert!(find_key(&server("x", Some(&dir.path().join("missing"))), &Env::default()).is_err());
        put(&dir.path().join("home/.config/oxen/auth_config.toml"), "auth_token = s3cret", 0o600);
        let error = find_key(&server("other", None), &env).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert_eq!(format!("{:?}", ApiKey::new(b"k3y").unwrap()), "ApiKey(hidden)");
    }
}
