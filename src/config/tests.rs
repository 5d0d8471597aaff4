//! What a config file may say, and what is said about one that is wrong.

use std::path::Path;

use super::*;

#[test]
fn probe() {
    for text in [
        "[server]\nurl = \"http://me:secret@h\"\napi_key = \"abc\"\n[author]\nname = 5\n[[folder]]\npath = \"a\"\nrepo=\"lab\"\nsettle.quiet = 2\nexlude = []\n",
        "[server]\nurl = http://h\nurk = 3\n[author]\nname = \"x\"\n[[folder]]\nsettle.quiet = 2s\nbranch = main\non_delete = 5\n",
        "[[folder]\npath = \"a\"\n[server\nx = \n y = \"abc\n",
        "",
        "a = \"\"\"\nfoo\n[server]",
        "include = [\"a\",\n[[folder]]\npath = \"x\"\n[server]\nurl = \"x\"\n",
        "[server]\nurl = \"x\"\nurl = \"y\"\n[server]\nfoo = 1\n",
        "folder = 3\nserver = 4\nservers = 5\n[[defaults]]\n[[author]]",
    ] {
        println!("=====\n{}", parse(text, Path::new("/etc/oxen-sync.toml"), &Env::default()).unwrap_err());
    }
}
