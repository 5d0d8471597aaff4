use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What the environment says, taken once at the start, so that reading a config is a pure function.
///
/// An empty variable counts as unset, and a directory that is not absolute is ignored, as the XDG base
/// directory specification demands.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `HOME`: where `~/` leads.
    pub home: Option<PathBuf>,
    /// `STATE_DIRECTORY`, the first entry: what systemd made for `StateDirectory=`.
    pub state_directory: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`: where systemd puts what `LoadCredential=` names.
    pub credentials_directory: Option<PathBuf>,
    /// `OXEN_CONFIG_DIR`: where the Oxen CLI keeps its settings if not in `~/.config/oxen`.
    pub oxen_config_dir: Option<PathBuf>,
    /// `OXEN_API_KEY`, unchecked.
    pub oxen_api_key: Option<OsString>,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// Where the state lies when the config does not say: systemd's place for it, else the user's.
    pub fn default_state_dir(&self) -> Option<PathBuf> {
        self.state_directory
            .clone()
            .or_else(|| self.xdg_state_home.as_ref().map(|dir| dir.join("oxen-sync")))
            .or_else(|| self.home.as_ref().map(|home| home.join(".local/state/oxen-sync")))
    }

    /// The environment in which `var` tells each variable's value.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| var(name).filter(|value| !value.is_empty());
        let dir = |name| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            home: dir("HOME"),
            state_directory: set("STATE_DIRECTORY")
                .and_then(|list| std::env::split_paths(&list).next())
                .filter(|path| path.is_absolute()),
            xdg_state_home: dir("XDG_STATE_HOME"),
            credentials_directory: dir("CREDENTIALS_DIRECTORY"),
            oxen_config_dir: dir("OXEN_CONFIG_DIR"),
            oxen_api_key: set("OXEN_API_KEY"),
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("home", &self.home)
            .field("state_directory", &self.state_directory)
            .field("xdg_state_home", &self.xdg_state_home)
            .field("credentials_directory", &self.credentials_directory)
            .field("oxen_config_dir", &self.oxen_config_dir)
            .field("oxen_api_key", &self.oxen_api_key.as_ref().map(|_| "hidden"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_state_directories_the_first_counts_and_empty_is_unset() {
        let env = Env::from_vars(|name| match name {
            "STATE_DIRECTORY" => Some("/var/lib/a:/var/lib/b".into()),
            "HOME" => Some("".into()),
            "XDG_STATE_HOME" => Some("relative".into()),
            "OXEN_API_KEY" => Some("k3y".into()),
            _ => None,
        });
        assert_eq!(env.state_directory, Some("/var/lib/a".into()));
        assert_eq!((env.home.clone(), env.xdg_state_home.clone()), (None, None));
        assert!(!format!("{env:?}").contains("k3y"));
    }
}
