//! The commands: what a person types, and what they read.

mod add;
mod args;
mod check;
mod exit;
mod log;
mod out;
mod progress;
mod push;
mod release;
mod run;
mod status;

pub use args::{Cli, Command};
pub use exit::Exit;

use rustix::fs::Mode;

use crate::config::Env;

/// Runs the command that was typed.
pub async fn main(cli: Cli) -> Exit {
    // State and socket are for their owner alone from the first moment on; what replaces a file keeps the file's mode.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bars = log::init(cli.log.as_deref());
    let env = Env::of_process();
    match cli.command {
        Command::Run { config } => run::run(&config.file(), env).await,
        Command::Push { config, folders, json } => push::run(&config.file(), &folders, json, env, bars).await,
        Command::Check { config, json } => check::run(&config.file(), json, env).await,
        Command::Status { config, json } => status::run(&config.file(), json, env).await,
        Command::Release { config, folders } => release::run(&config.file(), &folders, &env).await,
        Command::Add(options) => add::run(options, &env),
    }
}
