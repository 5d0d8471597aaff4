use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::when::parse_span;
use crate::oxen::{BranchName, RepoName};

/// The version with the commit and the day that it is of, where they are known.
pub(super) const VERSION: &str = env!("OXEN_SYNC_VERSION");

/// What stands below every list of the commands.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0  all is well; for push: everything is proved to be on the server
  1  something failed, or not everything is on the server
  2  the arguments or the config cannot be used";

/// Watches folders and commits their finished files to a branch of an Oxen repository.
#[derive(Debug, Parser)]
#[command(name = "oxen-sync", version = VERSION, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What is logged: error, warn, info, debug or trace, or a filter like "info,oxen_sync::push=debug"
    #[arg(long, global = true, env = "OXEN_SYNC_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: watch the folders and push what is finished, until SIGTERM or SIGINT
    ///
    /// The config file may be edited while it runs; a change takes effect within two seconds, and a file with mistakes
    /// changes nothing. SIGHUP reads it again, and the API keys with it.
    #[command(after_help = "Example:\n  oxen-sync run --config /etc/oxen-sync/oxen-sync.toml")]
    Run {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Push once what differs, and exit
    ///
    /// Exits with 0 only when everything in the folders is proved to be on the server.
    #[command(
        after_help = "Examples:\n  oxen-sync push --config rig.toml\n  oxen-sync push --config rig.toml /data/camera"
    )]
    Push {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        #[arg(value_hint = ValueHint::DirPath)]
        folders: Vec<PathBuf>,
        /// Print the outcome as JSON: {"whole": bool, "folders": [{"path", "whole", "files", "removed", "bytes",
        /// "commits", "held", "problems": [{"path", "kind", "reason"}], "failure"}]}, or, where nothing could be begun,
        /// {"error", "problems"}
        #[arg(long)]
        json: bool,
    },
    /// Say every problem of the config, then try what a run needs
    #[command(after_help = "Example:\n  oxen-sync check --config /etc/oxen-sync/oxen-sync.toml")]
    Check {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Print the findings as JSON: {"ok": bool, "findings": [{"level": "ok"|"warning"|"failure", "what", "detail"}]},
        /// or, where the config cannot be used, {"error", "problems": [{"file", "line", "column", "message", "help"}]}
        #[arg(long)]
        json: bool,
    },
    /// Check everything that may matter: what check does, and clocks, filesystems, space, versions, the state, the service
    #[command(after_help = "Example:\n  oxen-sync doctor")]
    Doctor {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Print the findings as JSON, as check does
        #[arg(long)]
        json: bool,
    },
    /// Say what is going on in each folder and why, also while no service runs
    #[command(
        after_help = "Examples:\n  oxen-sync status --config /etc/oxen-sync/oxen-sync.toml\n  oxen-sync status --json | jq '.folders[] | {path, state, waiting, failed}'"
    )]
    Status {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Print the report as JSON; src/status/report.rs describes its fields, and none is ever removed
        #[arg(long)]
        json: bool,
        /// Say it again whenever something changes, until Ctrl-C; with --json one report a line
        #[arg(long, short)]
        watch: bool,
    },
    /// Say why a path is where it is: on the branch since when, waiting for what, left out by which pattern
    #[command(after_help = "Example:\n  oxen-sync why /data/camera/run-7/image-0042.tif")]
    Why {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// A file or directory
        path: PathBuf,
        /// Print the answer as JSON: {"path", "folders": [{"folder", "state", "answer", "next", "steps": [{"step",
        /// "detail"}]}], "next"}
        #[arg(long)]
        json: bool,
    },
    /// List the commits that were made, the newest first
    #[command(after_help = "Examples:\n  oxen-sync log --since 2d\n  oxen-sync log /data/camera -n 5 --json")]
    Log {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
        /// Only those of the last minutes, hours or days, such as 30m, 2h or 7d
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        since: Option<Duration>,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 20)]
        count: usize,
        /// Print them as JSON: {"commits": [{"folder", "commit": {"id", "at", "files", "removed", "bytes"}}]}
        #[arg(long)]
        json: bool,
    },
    /// List the files that could not be pushed, each with its reason
    #[command(after_help = "Example:\n  oxen-sync failed /data/camera")]
    Failed {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
        /// Print them as JSON: {"folders": [{"folder", "failed", "problems": [{"path", "kind", "reason", "since"}]}]}
        #[arg(long)]
        json: bool,
    },
    /// Try files again that could not be pushed
    #[command(after_help = "Examples:\n  oxen-sync retry\n  oxen-sync retry /data/camera/run-7")]
    Retry {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these files, and those below these directories; all when none is given
        paths: Vec<PathBuf>,
    },
    /// Wait until everything that is in the folders now is on the branch, and print the commit
    ///
    /// Exits with 0 only when that is so. Files that come later are not waited for. A file that is still being written is,
    /// for settle.max_wait at most.
    #[command(after_help = "Example:\n  oxen-sync flush /data/camera --timeout 10m")]
    Flush {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
        /// Wait no longer than this, such as 30s or 10m
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        timeout: Option<Duration>,
        /// Print the outcome as JSON: {"done": bool, "folders": [{"folder", "done", "failure", "commit", "failed",
        /// "held"}]}
        #[arg(long)]
        json: bool,
    },
    /// Compare all of the folders with all of their branches, hash by hash, and say every difference
    ///
    /// Reads every file. Changes nothing. Exits with 0 only when nothing differs.
    #[command(after_help = "Example:\n  oxen-sync verify /data/camera")]
    Verify {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
        /// Print the outcome as JSON: {"done": bool, "folders": [{"folder", "done", "failure", "commit", "files", "bytes",
        /// "under_way", "held_back", "kept", "others", "different", "differences": [{"path", "kind", "reason"}]}]}
        #[arg(long)]
        json: bool,
    },
    /// Read and send nothing of the folders until they are resumed, also over restarts
    ///
    /// What happens in them meanwhile is seen and comes afterwards. A commit under way comes to its end.
    #[command(after_help = "Example:\n  oxen-sync pause /data/camera --for 2h")]
    Pause {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
        /// Go on by itself after this, such as 30m or 2h
        #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
        time: Option<Duration>,
    },
    /// Go on with folders that were paused
    #[command(after_help = "Example:\n  oxen-sync resume /data/camera")]
    Resume {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
    },
    /// Compare the folders with what is known of them now, and the branch too, without waiting for rescan_interval
    #[command(after_help = "Example:\n  oxen-sync rescan /data/camera")]
    Rescan {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        folders: Vec<PathBuf>,
    },
    /// Let go removals that the brake of on_delete = "mirror" holds
    ///
    /// A folder that loses many of its files at once keeps them on the branch until this says that they are to go from
    /// there too. A running service removes them at once, else the next start or push does. Their earlier versions stay
    /// in the history.
    #[command(
        after_help = "Examples:\n  oxen-sync release /data/camera --config rig.toml\n  oxen-sync release --config rig.toml"
    )]
    Release {
        /// Where the config is.
        #[command(flatten)]
        config: ConfigArg,
        /// Only these folders of the config; all when none is given
        #[arg(value_hint = ValueHint::DirPath)]
        folders: Vec<PathBuf>,
    },
    /// Write a first config: asks the few questions, and tests each answer as it is given
    #[command(
        after_help = "Examples:\n  oxen-sync init\n  oxen-sync init --yes --config rig.toml --folder /data/camera --repo lab/cells"
    )]
    Init(InitArgs),
    /// Add a folder to the config file, keeping everything else in it as it is
    #[command(
        after_help = "Example:\n  oxen-sync add /data/camera --repo lab/cells --branch rig-7 --remote-dir camera"
    )]
    Add(AddArgs),
    /// Write the man pages, or the completions of a shell, for a package or an installation by hand
    #[command(hide = true, subcommand)]
    Generate(Generate),
}

/// What is made of the same words as `--help`.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Write a man page for each command
    Man {
        /// The directory to write them into; it is made if it is missing
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// A shell that completes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Where the config is.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The config file
    #[arg(
        long,
        short,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        env = "OXEN_SYNC_CONFIG",
        default_value = "/etc/oxen-sync/oxen-sync.toml"
    )]
    config: PathBuf,
}

impl ConfigArg {
    /// The file, absolute.
    pub fn file(&self) -> PathBuf {
        std::path::absolute(&self.config).unwrap_or_else(|_| self.config.clone())
    }
}

/// What a first config says.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the config is.
    #[command(flatten)]
    pub config: ConfigArg,
    /// The address of the Oxen server
    #[arg(long)]
    pub url: Option<String>,
    /// Send by http:// over a network, where everyone on the way can read and change it
    #[arg(long)]
    pub allow_http: bool,
    /// The file that holds the API key, on one line
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The name that signs the commits
    #[arg(long)]
    pub name: Option<String>,
    /// Its mail address
    #[arg(long)]
    pub email: Option<String>,
    /// The folder to watch
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The repository, as NAMESPACE/NAME
    #[arg(long, value_name = "NS/NAME")]
    pub repo: Option<RepoName>,
    /// The branch
    #[arg(long)]
    pub branch: Option<BranchName>,
    /// The branch that a missing one is made from
    #[arg(long, value_name = "BRANCH")]
    pub from: Option<BranchName>,
    /// Where the folder stands on the branch; / for the root
    #[arg(long, value_name = "DIR")]
    pub remote_dir: Option<String>,
    /// Ask nothing: what no flag says is as it is by default
    #[arg(long, short)]
    pub yes: bool,
    /// Test nothing against the server
    #[arg(long)]
    pub no_test: bool,
    /// Write the config anew where there is one; that is kept as FILE.before
    #[arg(long)]
    pub force: bool,
}

/// A folder to be added.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Where the config is.
    #[command(flatten)]
    pub config: ConfigArg,
    /// The folder to watch
    #[arg(value_hint = ValueHint::DirPath)]
    pub path: PathBuf,
    /// The repository, as NAMESPACE/NAME
    #[arg(long, value_name = "NS/NAME")]
    pub repo: RepoName,
    /// The branch
    #[arg(long)]
    pub branch: Option<BranchName>,
    /// Where the folder stands on the branch
    #[arg(long, value_name = "DIR")]
    pub remote_dir: Option<String>,
    /// The name of a server of the config, for another than [server]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
