//! What a config file may say, and what is said about one that is wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::path::{Layout, RepoPath};

mod after_push;
mod fuzz;
mod reference;
mod servers;

const SMALLEST: &str = r#"[server]
url = "http://localhost:3000"
[author]
name = "rig-07"
email = "rig-07@lab.example"
[[folder]]
path = "/data/camera"
repo = "lab/cells"
"#;

fn env() -> Env {
    Env { home: Some("/home/u".into()), ..Env::default() }
}

fn read(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("/etc/oxen-sync.toml"), &env())
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn bad(text: &str) -> Problems {
    match read(text) {
        Ok(_) => panic!("no problem was found in\n{text}"),
        Err(problems) => problems,
    }
}

/// The problems, one a line: place, message, help.
fn told(text: &str) -> String {
    let problems = bad(text);
    let lines = problems.iter().map(|problem| {
        let help = problem.help().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {}{help}", problem.line(), problem.column(), problem.message())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The smallest config with `lines` in its folder.
fn with(lines: &str) -> String {
    format!("{SMALLEST}{lines}\n")
}

#[test]
fn the_least_config_gets_the_defaults() {
    let config = good(SMALLEST);
    assert_eq!(config.state_dir, Path::new("/home/u/.local/state/oxen-sync"));
    let server = Server {
        name: "default".to_owned(),
        url: "http://localhost:3000/".parse().unwrap(),
        proxy: None,
        ca_file: None,
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(300),
        concurrency: 16.try_into().unwrap(),
        bandwidth: Bandwidth::default(),
        key_file: None,
    };
    let folder = Folder {
        path: "/data/camera".into(),
        server: Arc::new(server),
        repo: "lab/cells".parse().unwrap(),
        branch: "main".parse().unwrap(),
        create_branch_from: None,
        create_repo: true,
        description: None,
        remote_dir: RepoPath::root(),
        layout: Layout::in_dir("").unwrap(),
        include: vec![],
        exclude: DEFAULT_EXCLUDES.iter().map(|pattern| (*pattern).to_owned()).collect(),
        max_file_size: None,
        settle: Settle { quiet: Duration::from_secs(2), max_wait: Duration::from_secs(300) },
        batch: BatchLimits {
            quiet: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            max_files: 10_000,
            max_bytes: 4 << 30,
        },
        marker: None,
        rescan_interval: Duration::from_secs(3600),
        priority: 5,
        upload_window: UploadWindow::default(),
        transport: Transport::Auto,
        on_delete: OnDelete::Keep,
        delete_brake: DeleteBrake { share_percent: 50, files: 10 },
        after_push: AfterPush { action: TakeOff::Keep, min_age: Duration::from_secs(7 * 24 * 3600) },
        message: MessageTemplate::default(),
    };
    assert_eq!(config.folders, [folder]);
}

#[test]
fn every_key_of_the_schema_is_read() {
    // A date is no key's type: each key must object to it.
    for (table, keys) in schema::TABLES {
        for key in *keys {
            let text = match *table {
                "[[folder]]" => with(&format!("{key} = 2026-11-05")),
                "settle" | "batch" | "delete_brake" | "after_push" => {
                    with(&format!("{table}.{key} = 2026-11-05"))
                }
                "the top of the file" => format!("{key} = 2026-11-05\n"),
                _ => format!("{table}\n{key} = 2026-11-05\n"),
            };
            assert!(told(&text).contains("not a date or time") || told(&text).contains("twice"), "{text}");
        }
    }
}

#[test]
fn a_folder_overrides_the_defaults_key_by_key() {
    let text = with(
        r#"settle.quiet = "1s"
exclude = ["*.raw"]
include = []
[defaults]
branch = "rig/7"
settle = { quiet = "3s", max_wait = "9m" }
exclude = ["*.log"]
include = ["*.tif"]
on_delete = "mirror"
default_excludes = false
batch.max_files = 7
"#,
    );
    let config = good(&text);
    let folder = &config.folders[0];
    assert_eq!(folder.branch.as_str(), "rig/7");
    assert_eq!((folder.settle.quiet.as_secs(), folder.settle.max_wait.as_secs()), (1, 540));
    assert_eq!((&folder.exclude, &folder.include), (&vec!["*.raw".to_owned()], &vec![]));
    assert_eq!((folder.on_delete, folder.batch.max_files), (OnDelete::Mirror, 7));
}

#[test]
fn own_excludes_come_after_the_default_ones() {
    let folder = &good(&with("exclude = [\"!*.tmp\"]")).folders[0];
    let (own, default) = folder.exclude.split_last().unwrap();
    assert_eq!(own, "!*.tmp");
    assert!(default.iter().eq(DEFAULT_EXCLUDES));
}

#[test]
fn the_state_directory_comes_from_the_file_or_the_environment() {
    let all = Env {
        state_directory: Some("/var/lib/oxen-sync".into()),
        xdg_state_home: Some("/xdg".into()),
        ..env()
    };
    let dir = |text: &str, env: &Env| parse(text, Path::new("/c.toml"), env).unwrap().state_dir;
    assert_eq!(dir(&format!("state_dir = \"~/s\"\n{SMALLEST}"), &all), Path::new("/home/u/s"));
    assert_eq!(dir(SMALLEST, &all), Path::new("/var/lib/oxen-sync"));
    assert_eq!(dir(SMALLEST, &Env { state_directory: None, ..all.clone() }), Path::new("/xdg/oxen-sync"));
    let problems = parse(SMALLEST, Path::new("/c.toml"), &Env::default()).unwrap_err();
    assert!(problems.to_string().contains("no place for the service's state"), "{problems}");
}

#[test]
fn a_marker_that_patterns_let_through_is_taken() {
    for more in
        ["", "include = [\"*.tif\", \"DONE\"]", "include = [\"scans/**\"]", "exclude = [\"*\", \"!DONE\"]"]
    {
        let config = good(&with(&format!("batch.marker = \"DONE\"\n{more}")));
        assert_eq!(config.folders[0].marker.as_deref(), Some("DONE"), "{more}");
    }
    let config = good(&with("batch.marker = \"x.tmp\"\nexclude = [\"!x.tmp\"]"));
    assert_eq!(config.folders[0].marker.as_deref(), Some("x.tmp"));
}

#[test]
fn impossible_values_of_a_folder_are_told() {
    let table = [
        "settle.quiet = \"2d\"",
        "settle.quiet = 2",
        "settle.quiet = \"2\"",
        "settle.max_wait = \"10ms\"",
        "settle.quiet = \"10m\"",
        "settle = { quiet = \"10m\", max_wait = \"9m\" }",
        "settle.max_wait = \"1s\"",
        "batch.max_wait = \"500ms\"",
        "batch.max_files = 0",
        "batch.max_files = \"7\"",
        "batch.max_files = -1",
        "batch.max_bytes = \"1KiB\"",
        "batch.max_bytes = 1.5",
        "max_file_size = \"big\"",
        "max_file_size = 0",
        "batch.marker = \"run/DONE\"",
        "batch.marker = \"..\"",
        "batch.marker = \"DONE\"\ntransport = \"put\"",
        "batch.marker = \"run.tmp\"",
        "batch.marker = \"DONE\"\ninclude = [\"*.tif\"]",
        "rescan_interval = \"0s\"",
        "priority = 0",
        "priority = 10",
        "transport = \"worksapce\"",
        "on_delete = \"forget\"",
        "delete_brake = \"50%\"",
        "delete_brake.share = \"101%\"",
        "delete_brake.share = \"half\"",
        "delete_brake.share = 50",
        "delete_brake.share = 0.5",
        "delete_brake.files = 0",
        "branch = \"a b\"",
        "branch = 7",
        "create_branch_from = \"main\"",
        "create_repo = \"yes\"",
        "description = \"a\\nb\"",
        "remote_dir = \"../x\"",
        "remote_dir = \"a\\\\b\"",
        "remote_dir = \".oxen\"",
        "remote_dir = \"{day}\"",
        "remote_path = \"{date}\"",
        "remote_path = \"{date}//{path}\"",
        "include = \"*.tif\"",
        "include = [\"*.tif\", 7]",
        "exclude = [\"{a\", \"# b\", \"\"]",
        "message = \"{user}\"",
        "message = \"\"",
        "server = \"hub\"",
        "quiet = \"2s\"",
        "url = \"http://h\"",
        "on-delete = \"keep\"",
        "\"a\\u001b[31m\" = 1",
        "settle = \"2s\"",
        "upload_window = \"18:00-08:00\"",
        "upload_window = [\"18:00\", \"08:00-08:00\"]",
        "settle.loud = true",
    ];
    let all: Vec<_> = table
        .iter()
        .map(|line| format!("{line}\n    {}", told(&with(line)).replace('\n', "\n    ")))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn impossible_values_elsewhere_are_told() {
    let table = [
        ("path = \"/data/camera\"", "path = \"data\""),
        ("path = \"/data/camera\"", "path = \"/\""),
        ("path = \"/data/camera\"", "path = \"/data/../etc\""),
        ("path = \"/data/camera\"", "path = \"~other/x\""),
        ("path = \"/data/camera\"", "path = \"/a\\u0000b\""),
        ("path = \"/data/camera\"", "path = \"~\""),
        ("path = \"/data/camera\"\n", ""),
        ("repo = \"lab/cells\"", "repo = \"cells\""),
        ("repo = \"lab/cells\"\n", ""),
        ("[[folder]]", "[folder]"),
        ("name = \"rig-07\"", "name = \" \""),
        ("email = \"rig-07@lab.example\"", "email = \"rig\""),
        ("email = \"rig-07@lab.example\"\n", ""),
        ("[author]\n", "[author]\n[author]\n"),
        ("[server]", "[[server]]"),
        ("[server]", "[servers.\"a b\"]"),
        ("[server]", "[servers.default]"),
        ("[server]", "[servers]"),
        ("http://localhost:3000", "localhost:3000"),
        ("http://localhost:3000", "ftp://localhost"),
        ("http://localhost:3000", "localhost"),
        ("http://localhost:3000", "http://"),
        ("http://localhost:3000", "http://h?a=b"),
        ("http://localhost:3000", "http://h#a"),
        ("[server]", "[server]\nconcurrency = 0"),
        ("[server]", "[server]\nconcurrency = 65"),
        ("[server]", "[server]\nconnect_timeout = \"1ms\""),
        ("[server]", "[server]\nrequest_timeout = \"2d\""),
        ("[server]", "[server]\nca_file = \"ca.pem\""),
        ("[server]", "[server]\nproxy = \"socks5://h\""),
        ("[server]", "state_dir = \"/data/camera/state\"\n[server]"),
        ("[server]", "folders = 3\n[server]"),
        ("[author]", "[defaults]\npath = \"/x\"\n[author]"),
        ("[author]", "[defaults]\nbranch = \"a b\"\n[author]"),
    ];
    let all: Vec<_> = table
        .iter()
        .map(|(from, to)| {
            assert!(SMALLEST.contains(from), "{from}");
            let told = told(&SMALLEST.replacen(from, to, 1));
            format!("{from:?} → {to:?}\n    {}", told.replace('\n', "\n    "))
        })
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let text = r#"state_dir = 7
[server]
url = "http://localhost:3000"
conurrency = 4

[author]
name = "rig-07"

[[folder]]
path = "camera"
repo = "cells"
settle.quiet = 2
branch = main
	exclude = ["ä", "{a"] # after a tab

[[folder]]
path = "/data/a"
repo = "lab/cells"
remote_dir = "rig"

[[folder]]
path = "/data/b"
repo = "lab/cells"
remote_dir = "rig/7"
"#;
    insta::assert_snapshot!(bad(text).to_string());
}

#[test]
fn folders_that_could_write_one_path_are_told() {
    let table = [
        // Other place, branch or repository: fine.
        ("remote_dir = \"a\"", "remote_dir = \"b\"", false),
        ("remote_dir = \"a\"", "remote_dir = \"ab\"", false),
        ("branch = \"x\"", "branch = \"y\"", false),
        ("", "branch = \"x\"", false),
        ("", "server = \"other\"", false),
        // One place, or one inside the other.
        ("", "", true),
        ("", "remote_dir = \"a\"", true),
        ("remote_dir = \"a/b\"", "remote_dir = \"/a/\"", true),
        ("remote_dir = \"a/{date}\"", "remote_dir = \"a/b\"", true),
        ("remote_dir = \"a\"\nremote_path = \"b/{path}\"", "remote_dir = \"a/c\"", true),
        ("remote_dir = \"a/{date}\"", "remote_dir = \"b/{date}\"", false),
        ("", "branch = \"main\"", true),
        // A second name for the same server.
        ("", "server = \"same\"", true),
    ];
    for (first, second, clash) in table {
        let text = format!(
            "{}[[folder]]\npath = \"/data/b\"\nrepo = \"lab/cells\"\n{second}\n\
             [servers.other]\nurl = \"http://localhost:3001\"\n[servers.same]\nurl = \"http://localhost:3000/\"\n",
            with(first)
        );
        assert_eq!(read(&text).is_err(), clash, "{text}");
    }
    let twice = told(&format!("{SMALLEST}[[folder]]\npath = \"/data/camera/\"\nrepo = \"lab/cells\"\n"));
    assert_eq!(
        twice,
        "9:1 this folder is there twice: the root of lab/cells on branch main | remove one of the two"
    );
}

#[test]
fn a_state_directory_in_a_watched_folder_is_told() {
    for state_dir in ["/data/camera", "/data/camera/x/y"] {
        let text = format!("state_dir = \"{state_dir}\"\n{SMALLEST}");
        assert!(told(&text).starts_with("1:13 the state directory lies in a watched folder"), "{state_dir}");
    }
    assert!(
        told(&SMALLEST.replace("/data/camera", "~/.local")).starts_with("7:8 the state directory lies in")
    );
    good(&format!("state_dir = \"/data/camera2\"\n{SMALLEST}"));
    good(&format!("state_dir = \"/data\"\n{SMALLEST}"));
}

#[test]
fn what_is_not_toml_is_told_with_what_is_sure() {
    let table = [
        "[server\nurl = 5\n",
        "state_dir = 5\n[server]\nurl = \"http://h\nproxy = 5\n",
        "[server]\nurl = http://h\nconcurrency = many\nurk = 5\n",
        "state_dir = \"\"\"\n[server]\n",
        "state_dir = 5\nstate_dir = \"/x\"\n",
        "[defaults]\ninclude = [\"a\",\n[author]\nname = \"x\"\n",
        "\u{0}",
        "a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ];
    let all: Vec<_> =
        table.iter().map(|text| format!("{text:?}\n    {}", told(text).replace('\n', "\n    "))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn no_secret_is_shown() {
    let table = [
        SMALLEST.replace("http://", "http://me:s3cret@"),
        SMALLEST.replace("http://", "http://s3cret@"),
        SMALLEST.replace("\"http://localhost:3000\"", "'http://me:s3cret/x@h'"),
        SMALLEST.replace("\"http://localhost:3000\"", "http://me:s3cret@h"),
        SMALLEST.replace("\"http://localhost:3000\"", "\"http:\\u002f/me:s3cret@h\""),
        SMALLEST.replace("[author]", "proxy = \"http://me:s3cret@h\"\n[author]"),
        SMALLEST.replace("[author]", "api_key = \"s3cret\"\n[author]"),
        SMALLEST.replace("[author]", "api_key = s3cret\n[author]"),
        SMALLEST.replace("[author]", "key = [\"s3cret\"]\n[author]"),
        SMALLEST.replace("[author]", "auth.token = \"s3cret\n[author]"),
    ];
    for text in &table {
        let problems = bad(text);
        for shown in [problems.to_string(), problems.render(true), format!("{problems:?}")] {
            assert!(!shown.contains("s3cret"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_problem_is_shown_in_colour_only_when_asked() {
    let problems = bad("x = 1\n");
    assert!(problems.render(true).contains("\u{1b}["));
    assert!(!problems.render(false).contains('\u{1b}'));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str| load(&dir.path().join(name), &env());
    let told = |name: &str| load(name).unwrap_err().to_string();
    assert!(told("missing").ends_with("No such file or directory (os error 2)"), "{}", told("missing"));
    assert!(told("").ends_with("is not a regular file"));
    std::fs::write(dir.path().join("large"), vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(told("large").ends_with("is larger than 4 MiB"));
    std::fs::write(dir.path().join("latin1"), b"# ok\n# Gr\xf6\xdfe\n").unwrap();
    let LoadError::Problems(problems) = load("latin1").unwrap_err() else { panic!("not problems") };
    let first = problems.iter().next().unwrap();
    assert_eq!((problems.count(), first.line(), first.column()), (1, 2, 5));
    std::fs::write(dir.path().join("good"), SMALLEST).unwrap();
    assert_eq!(load("good").unwrap().file, dir.path().join("good"));
}

#[test]
fn the_state_is_found_also_through_a_broken_config() {
    let env = Env { home: Some("/home/ada".into()), ..Env::default() };
    let found = |text| state_dir_of(text, &env);
    assert_eq!(found("state_dir = \"/s\" # here\n[server\nurl = 3"), Some("/s".into()));
    assert_eq!(found("= nonsense\nstate_dir = \"~/s\""), Some("/home/ada/s".into()));
    assert_eq!(found("[[folder]]\nstate_dir = \"/no\""), Some("/home/ada/.local/state/oxen-sync".into()));
}
