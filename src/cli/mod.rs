//! The commands: what a person types, and what they read.

mod add;
mod args;
mod ask;
mod check;
mod exit;
mod flush;
mod generate;
mod init;
mod log;
mod out;
mod progress;
mod push;
mod reach;
mod run;
mod status;
mod steer;
mod verify;
mod when;

pub use args::{Cli, Command, Generate, Shell};
pub use exit::Exit;

use rustix::fs::Mode;

use crate::config::Env;

/// Runs the command that was typed.
pub async fn main(cli: Cli) -> Exit {
    // Before the umask: what is made here is for everyone to read.
    if let Command::Generate(what) = &cli.command {
        return generate::run(what);
    }
    // State and socket are for their owner alone from the first moment on; what replaces a file keeps the file's mode.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bars = log::init(cli.log.as_deref());
    let env = Env::of_process();
    match cli.command {
        Command::Run { config } => run::run(&config.file(), env).await,
        Command::Push { config, folders, json } => push::run(&config.file(), &folders, json, env, bars).await,
        Command::Check { config, json } => check::run(&config.file(), json, false, env).await,
        Command::Doctor { config, json } => check::run(&config.file(), json, true, env).await,
        Command::Status { config, json, watch } => status::run(&config.file(), json, watch, env).await,
        Command::Why { config, path, json } => ask::why(&config.file(), &path, json, &env).await,
        Command::Log { config, folders, since, count, json } => {
            ask::log(&config.file(), &folders, (since, count), json, &env).await
        }
        Command::Failed { config, folders, json } => ask::failed(&config.file(), &folders, json, &env).await,
        Command::Retry { config, paths } => steer::retry(&config.file(), &paths, &env).await,
        Command::Flush { config, folders, timeout, json } => {
            flush::run(&config.file(), &folders, timeout, json, &env).await
        }
        Command::Verify { config, folders, json } => verify::run(&config.file(), &folders, json, env).await,
        Command::Pause { config, folders, time } => steer::pause(&config.file(), &folders, time, &env).await,
        Command::Resume { config, folders } => steer::resume(&config.file(), &folders, &env).await,
        Command::Rescan { config, folders } => steer::rescan(&config.file(), &folders, &env).await,
        Command::Release { config, folders } => steer::release(&config.file(), &folders, &env).await,
        Command::Init(options) => init::run(options, env).await,
        Command::Add(options) => add::run(options, &env).await,
        Command::Generate(what) => generate::run(&what),
    }
}
