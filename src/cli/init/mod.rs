//! Writes a first config: asks the few questions, and tests each answer as it is given.

mod answers;
mod ask;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use self::answers::Answers;
use self::ask::{Asker, GivenUp, Question};
use super::Exit;
use super::args::InitArgs;
use super::out::print;
use crate::config::{self, Env};
use crate::oxen::{Client, Error, RepoName};
use crate::path::{RepoPath, printable, shell_word};
use crate::service::Clients;

/// Where the service looks when it is told nothing.
const SYSTEM_FILE: &str = "/etc/oxen-sync/oxen-sync.toml";

pub(super) async fn run(args: InitArgs, env: Env) -> Exit {
    match init(args, &env).await {
        Ok(done) => print(&done).err().unwrap_or(Exit::Success),
        Err(GivenUp(reason)) => {
            eprintln!("oxen-sync: {reason}");
            Exit::Usage
        }
    }
}

async fn init(args: InitArgs, env: &Env) -> Result<String, GivenUp> {
    let file = args.config.file();
    let before = match config::read(&file) {
        Ok(before) if !args.force => {
            return Err(GivenUp(format!(
                "{} is there already{}; to add a folder: oxen-sync add; to write it anew: oxen-sync init --force, which \
                 keeps it as {}",
                printable(&file),
                if before.is_empty() { ", empty" } else { "" },
                printable(kept(&file))
            )));
        }
        Ok(before) => Some(before),
        Err(_) => None,
    };
    let mut asker = Asker::of_process(args.yes);
    asker.say(&format!("This writes {}. Nothing is written before the last question.\n", printable(&file)));
    let mut answers = Answers::default();
    let tests = !args.no_test;
    let client = server(&mut asker, &args, &mut answers, (&file, env, tests)).await?;
    author(&mut asker, &args, &mut answers)?;
    folder(&mut asker, &args, &mut answers)?;
    target(&mut asker, &args, &mut answers, client, (&file, env)).await?;
    let text = answers.text();
    // Nothing is written that a service would refuse.
    config::parse(&text, &file, env)
        .map_err(|problems| GivenUp(format!("the config would not be right:\n{problems}")))?;
    if let Some(before) = before {
        write(&kept(&file), &before)?;
    }
    write(&file, text.as_bytes())?;
    Ok(format!("{} is written. What comes next:\n{}", printable(&file), next(&file)))
}

/// Writes a file that whoever runs the service can read: it holds no secret.
fn write(file: &Path, content: &[u8]) -> Result<(), GivenUp> {
    let failed = |error: io::Error| GivenUp(format!("{} cannot be written: {error}", printable(file)));
    if let Some(dir) = file.parent().filter(|dir| !dir.exists()) {
        fs::create_dir_all(dir)
            .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755)))
            .map_err(failed)?;
    }
    // Never a half of it, whatever happens.
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = (|| {
        let mut out = File::create(&new)?;
        out.write_all(content)?;
        out.set_permissions(Permissions::from_mode(0o644))?;
        out.sync_all()?;
        fs::rename(&new, file)
    })();
    written.map_err(failed)
}

/// Where a file that is written anew is kept.
fn kept(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".before");
    PathBuf::from(name)
}

/// The two commands that come next.
fn next(file: &Path) -> String {
    if file == Path::new(SYSTEM_FILE) {
        return "  oxen-sync check\n  systemctl enable --now oxen-sync\n".to_owned();
    }
    let file = shell_word(file);
    format!("  oxen-sync check --config {file}\n  oxen-sync run --config {file}\n")
}

/// Asks for the server until one answers. Returns its client, where it is to be tested.
async fn server(
    asker: &mut Asker,
    args: &InitArgs,
    answers: &mut Answers,
    (file, env, tests): (&Path, &Env, bool),
) -> Result<Option<Client>, GivenUp> {
    answers.key_file = args.key_file.as_deref().map(absolute);
    let mut given = args.url.clone();
    loop {
        let question = Question {
            flag: "--url",
            words: "Address of the Oxen server",
            default: Some("http://localhost:3000".to_owned()),
        };
        answers.url = asker.ask(&question, given.take())?;
        answers.allow_http = args.allow_http;
        let mut client = client_of(answers, file, env);
        if matches!(&client, Err(problem) if problem.contains("allow_http")) {
            let question =
                "Everyone on the way could read and change what is sent by http://. Send all the same?";
            answers.allow_http = asker.confirm(question, "--allow-http", false)?;
            client = client_of(answers, file, env);
        }
        let problem = match client {
            Ok(client) if tests => match client.health().await {
                Ok(info) => {
                    let version = info.version.unwrap_or_else(|| "of unknown version".to_owned());
                    asker.say(&format!("  It answers: oxen {version}.\n"));
                    return Ok(Some(client));
                }
                Err(error) => error.to_string(),
            },
            Ok(_) => return Ok(None),
            Err(problem) => problem,
        };
        asker.problem(&problem, "--no-test writes the config all the same")?;
    }
}

/// The client of the server as it would be with these answers, or what is wrong with it.
fn client_of(answers: &Answers, file: &Path, env: &Env) -> Result<Client, String> {
    let draft = answers.draft();
    let config = config::parse(&draft, file, env).map_err(|problems| {
        let words = problems.iter().map(|problem| match problem.help() {
            Some(help) => format!("{} ({help})", problem.message()),
            None => problem.message().to_owned(),
        });
        words.collect::<Vec<_>>().join("; ")
    })?;
    let folder = config.folders.first().ok_or("the config has no folder")?;
    let (client, _) = Clients::new(env.clone()).get(&folder.server).map_err(|error| error.to_string())?;
    Ok(client)
}

fn author(asker: &mut Asker, args: &InitArgs, answers: &mut Answers) -> Result<(), GivenUp> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = if host.is_empty() { "rig".to_owned() } else { host };
    let question =
        Question { flag: "--name", words: "Name that signs the commits", default: Some(host.clone()) };
    answers.name = asker.ask(&question, args.name.clone())?;
    let default = Some(format!("{host}@lab.example"));
    let mut given = args.email.clone();
    loop {
        let question = Question {
            flag: "--email",
            words: "Its mail address, which need not exist",
            default: default.clone(),
        };
        answers.email = asker.ask(&question, given.take())?;
        if answers.email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()) {
            return Ok(());
        }
        asker.problem("it is no mail address, such as rig-07@lab.example", "--email gives another")?;
    }
}

fn folder(asker: &mut Asker, args: &InitArgs, answers: &mut Answers) -> Result<(), GivenUp> {
    let mut given = args.folder.as_ref().map(|path| path.to_string_lossy().into_owned());
    loop {
        let question = Question { flag: "--folder", words: "Folder to watch", default: None };
        let path = absolute(Path::new(&asker.ask(&question, given.take())?));
        let problem = match std::fs::metadata(&path) {
            _ if path == Path::new("/") => "the whole file system cannot be watched".to_owned(),
            Ok(found) if found.is_dir() => {
                answers.folder = path.clone();
                asker.say(&format!("  {}\n", super::add::holds(path)));
                return Ok(());
            }
            Ok(_) => format!("{} is no directory", printable(&path)),
            Err(error) => format!("{}: {error}", printable(&path)),
        };
        asker.problem(&problem, "--folder names another")?;
    }
}

/// Asks where the files go: repository, branch, directory.
async fn target(
    asker: &mut Asker,
    args: &InitArgs,
    answers: &mut Answers,
    mut client: Option<Client>,
    (file, env): (&Path, &Env),
) -> Result<(), GivenUp> {
    let mut given = args.repo.as_ref().map(ToString::to_string);
    let branches = loop {
        let question = Question { flag: "--repo", words: "Repository, as NAMESPACE/NAME", default: None };
        let text = asker.ask(&question, given.take())?;
        let repo: RepoName = match text.parse() {
            Ok(repo) => repo,
            Err(error) => {
                asker.problem(&format!("{error}"), "--repo names another")?;
                continue;
            }
        };
        answers.repo = repo.to_string();
        let Some(known) = &client else { break None };
        match branches(known, &repo).await {
            Ok(None) => {
                asker.say("  It is not there yet; the first push makes it.\n");
                break None;
            }
            Ok(Some(names)) if names.is_empty() => {
                asker.say("  It is there, and empty.\n");
                break None;
            }
            Ok(Some(names)) => {
                asker.say(&format!("  It is there, with the branches {}.\n", names.join(", ")));
                break Some(names);
            }
            Err(error) if matches!(error.code(), Some(401 | 403)) => {
                asker.say(&format!("  {error}\n"));
                let words = "File that holds the API key, on one line";
                let question = Question { flag: "--key-file", words, default: None };
                answers.key_file = Some(absolute(Path::new(&asker.ask(&question, None)?)));
                match client_of(answers, file, env) {
                    Ok(with_key) => client = Some(with_key),
                    Err(problem) => {
                        answers.key_file = None;
                        asker.problem(&problem, "--key-file names another")?;
                    }
                }
                given = Some(text);
            }
            Err(error) => asker.problem(&error.to_string(), "--no-test writes the config all the same")?,
        }
    };
    branch(asker, args, answers, branches.as_deref())?;
    let default = answers.folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut given = args.remote_dir.clone();
    loop {
        let words = "Directory of the branch for its files (/ for its root)";
        let question = Question { flag: "--remote-dir", words, default: default.clone() };
        let text = asker.ask(&question, given.take())?;
        match RepoPath::parse(text.trim_matches('/')) {
            Ok(dir) => {
                answers.remote_dir = dir.as_str().to_owned();
                return Ok(());
            }
            Err(refusal) => asker.problem(&refusal.to_string(), "--remote-dir names another")?,
        }
    }
}

fn branch(
    asker: &mut Asker,
    args: &InitArgs,
    answers: &mut Answers,
    branches: Option<&[String]>,
) -> Result<(), GivenUp> {
    let default = match branches {
        Some([only]) => only.clone(),
        _ => "main".to_owned(),
    };
    let question = Question { flag: "--branch", words: "Branch", default: Some(default) };
    answers.branch = asker.ask(&question, args.branch.as_ref().map(ToString::to_string))?;
    let Some(branches) = branches.filter(|branches| !branches.contains(&answers.branch)) else {
        return Ok(());
    };
    loop {
        let words = "That branch is not there; make it from which one";
        let question = Question { flag: "--from", words, default: branches.first().cloned() };
        let from = asker.ask(&question, args.from.as_ref().map(ToString::to_string))?;
        if branches.contains(&from) {
            answers.create_branch_from = Some(from);
            return Ok(());
        }
        asker.problem(&format!("there is no branch {from}"), "--from names another")?;
    }
}

/// The branches of a repository; `None` where that is not there.
async fn branches(client: &Client, repo: &RepoName) -> Result<Option<Vec<String>>, Error> {
    if !client.repo_exists(repo).await? {
        return Ok(None);
    }
    let branches = client.branches(repo).await?;
    Ok(Some(branches.into_iter().map(|branch| branch.name).collect()))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
