//! What the reader of a page has: a home, some data, a server, a config.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The server of the pages.
const URL: &str = "http://localhost:3000";

/// Where the page for a browser listens, as the guide has it.
const LISTEN: &str = "127.0.0.1:7710";
/// Where the files of the system are that a reader writes.
const ETC: &str = "/etc/oxen-sync/";

pub(super) struct Stage {
    dir: TempDir,
    url: String,
    listen: String,
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

impl Stage {
    pub(super) fn of(page: &str, url: &str) -> Self {
        let stage = Self {
            dir: TempDir::with_prefix("oxen-sync-guide-").unwrap(),
            url: url.trim_end_matches('/').to_owned(),
            // An address that nobody has at this moment.
            listen: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string(),
        };
        fs::create_dir_all(stage.home()).unwrap();
        match page {
            "tutorial" => {
                stage.write("data/camera/run-1/image-001.tif", "a first image\n");
                stage.write("data/camera/run-1/image-002.tif", "a second image\n");
                stage.write("data/camera/run-1/notes.txt", "exposure 20 ms\n");
            }
            "camera" => {
                stage.config(
                    "rig.toml",
                    "path = \"/data/camera\"\nrepo = \"lab/cells\"\nremote_path = \"camera/{date}/{hour}/{path}\"\n\
                     settle.quiet = \"2s\"\nbatch.max_wait = \"30s\"\n",
                );
                (1..=3).for_each(|n| stage.write_at(&format!("data/camera/frame-{n:06}.raw"), "pixels\n", 1_793_887_402));
            }
            "microscope" => {
                stage.config(
                    "rig.toml",
                    "path = \"/data/microscope\"\nrepo = \"lab/scans\"\nremote_dir = \"microscope\"\nexclude = [\"scratch/\"]\n\
                     settle.quiet = \"30s\"\nsettle.max_wait = \"2h\"\n",
                );
                stage.write_at("data/microscope/scan-1.czi", &"tile ".repeat(1_000_000), 1_793_887_402);
                stage.write("data/microscope/scratch/tile-1.tmp", "not yet\n");
            }
            "robot" => stage.config(
                "rig.toml",
                "path = \"/data/robot\"\nrepo = \"lab/robot\"\nremote_dir = \"arm-2\"\nsettle.quiet = \"1s\"\n",
            ),
            "nas" => stage.config(
                "rig.toml",
                "path = \"/data/nas\"\nrepo = \"lab/archive\"\nremote_dir = \"nas\"\nsettle.quiet = \"1m\"\n",
            ),
            "watch" => {
                stage.config(
                    "rig.toml",
                    &format!(
                        "path = \"/data/camera\"\nrepo = \"lab/cells\"\nremote_dir = \"camera\"\n\n\
                         [page]\nlisten = \"{LISTEN}\"\nkey_file = \"{ETC}page-key\"\n"
                    ),
                );
                stage.write("data/camera/run-1/image-001.tif", "a first image\n");
                stage.write("data/camera/run-1/image-002.tif", "a second image\n");
                fs::create_dir_all(stage.there(ETC)).unwrap();
            }
            "many_rigs" => {
                for rig in ["rig-1", "rig-2"] {
                    stage.config(
                        &format!("{rig}.toml"),
                        &format!("path = \"/data/{rig}\"\nrepo = \"lab/cells\"\nremote_dir = \"{rig}\"\n"),
                    );
                    let text = fs::read_to_string(stage.home().join(format!("{rig}.toml"))).unwrap();
                    let text = text.replace("rig-07", rig);
                    let state = format!("state_dir = \"{}/state-of-{rig}\"\n\n", text_of(&stage.home()));
                    fs::write(stage.home().join(format!("{rig}.toml")), state + &text).unwrap();
                    stage.write_at(&format!("data/{rig}/a.tif"), rig, 1_793_887_402);
                }
            }
            _ => {}
        }
        for dir in ["robot", "nas"] {
            fs::create_dir_all(stage.root().join("data").join(dir)).unwrap();
        }
        stage
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// A path of a page, as it is here.
    fn there(&self, path: &str) -> String {
        format!("{}{path}", text_of(self.root()))
    }

    fn write(&self, path: &str, content: &str) {
        let file = self.root().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// A file that was changed so many seconds after the epoch.
    fn write_at(&self, path: &str, content: &str, at_s: u64) {
        self.write(path, content);
        let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at_s);
        fs::File::options().write(true).open(self.root().join(path)).unwrap().set_modified(at).unwrap();
    }

    fn config(&self, name: &str, folder: &str) {
        let text = format!(
            "[server]\nurl = \"{URL}\"\n\n[author]\nname = \"rig-07\"\nemail = \"rig-07@lab.example\"\n\n[[folder]]\n{folder}"
        );
        fs::write(self.home().join(name), self.typed(&text)).unwrap();
    }

    /// The variables of the shell.
    pub(super) fn env(&self) -> Vec<(String, String)> {
        let program = Path::new(env!("CARGO_BIN_EXE_oxen-sync"));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", text_of(program.parent().unwrap()));
        let home = text_of(&self.home());
        let mut env =
            vec![("PATH", path), ("HOME", home), ("TZ", "UTC".to_owned()), ("LC_ALL", "C.UTF-8".to_owned())];
        if self.home().join("rig.toml").exists() {
            env.push(("OXEN_SYNC_CONFIG", text_of(&self.home().join("rig.toml"))));
        }
        env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What a page says, as it is here.
    pub(super) fn typed(&self, text: &str) -> String {
        text.replace("/data/", &self.there("/data/"))
            .replace(ETC, &self.there(ETC))
            .replace(URL, &self.url)
            .replace(LISTEN, &self.listen)
    }

    /// What is printed here, as a page says it.
    pub(super) fn shown(&self, text: &str) -> String {
        let home = text_of(&self.home());
        text.replace(&format!("{home}/.local"), "~/.local")
            .replace(&format!("{home}/"), "")
            .replace(&text_of(self.root()), "")
            .replace(&self.url, URL)
            .replace(&self.listen, LISTEN)
    }
}
