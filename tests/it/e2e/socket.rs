//! The control socket and the state are their owner's alone, and whoever talks to the socket cannot stop the service.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::status::socket;

use crate::support::means::{is_root, leave_out};
use crate::support::rig::Rig;
use crate::support::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_and_socket_are_for_their_owner_alone() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    // The directory may be there already, and be one that others may look into.
    fs::create_dir(&rig.state_dir).unwrap();
    fs::set_permissions(&rig.state_dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(rig.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    rig.start();
    rig.assert_all_holds().await;
    let (mut files, mut sockets) = (0, 0);
    for entry in fs::read_dir(&rig.state_dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o177, 0, "{:?} has mode {:o}", entry.path(), metadata.mode());
        files += u32::from(metadata.is_file());
        sockets += u32::from(entry.path() == socket::path(&rig.state_dir));
    }
    assert!(files >= 2 && sockets == 1, "{files} {sockets}");

    // Others are let into none of it. Only root can try that here.
    if rustix::process::geteuid().is_root() {
        for path in ["oxen-sync.sock", "state.db", "lock"] {
            let path = rig.state_dir.join(path);
            let by_shell = format!("test -r {path:?} || test -w {path:?} && exit 0; exit 7");
            let status = Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &by_shell])
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(7), "another user can read or write {path:?}");
        }
    }
    rig.stop().await;
}

/// A group that every Debian has, by its name and number.
const GROUP: (&str, u32) = ("daemon", 1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_the_config_names_may_ask_and_steer_and_nobody_else() {
    if !is_root() {
        return leave_out("only root can give the socket to a group and be somebody else");
    }
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "");
    let socket = rig.dir().join("control.sock");
    let control = format!("[control]\ngroup = {:?}\nsocket = {socket:?}\n\n[server]", GROUP.0);
    rig.write_config(&rig.config_text().replacen("[server]", &control, 1));
    for dir in [rig.dir(), rig.config.parent().unwrap()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&rig.config, fs::Permissions::from_mode(0o644)).unwrap();
    rig.write("a", "1");
    rig.start();
    rig.assert_all_holds().await;
    let metadata = fs::metadata(&socket).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.gid()), (0o660, GROUP.1));
    let ask = |groups: &str, command: &str| {
        let said = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", groups, env!("CARGO_BIN_EXE_oxen-sync"), command])
            .args(["--config".as_ref(), rig.config.as_os_str()])
            .env_clear()
            .env("HOME", "/nonexistent")
            .output()
            .unwrap();
        (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    };
    let member = format!("--groups={}", GROUP.1);
    for (command, expected) in [
        ("status", "is running"),
        ("pause", "paused; to go on"),
        ("resume", "goes on"),
        ("flush", "everything is on the branch"),
        ("log", "1 file"),
    ] {
        let (code, said) = ask(&member, command);
        assert!(code == Some(0) && said.contains(expected), "{command}: {code:?} {said}");
    }
    for command in ["status", "pause"] {
        let (code, said) = ask("--clear-groups", command);
        assert!(code == Some(1) && said.contains("as a member of the group"), "{command}: {code:?} {said}");
    }
    rig.stop().await;
    // Whatever is wrong with it, the folders are watched.
    rig.write_config(&rig.config_text().replace(GROUP.0, "no-such-group"));
    rig.start();
    rig.write("b", "2");
    rig.assert_all_holds().await;
    assert!(rig.log().contains("there is no group no-such-group"), "{}", rig.log());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_client_of_the_socket_is_left_to_itself() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    rig.start();
    rig.assert_all_holds().await;
    let path = socket::path(&rig.state_dir);
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream
    };
    let requests: [&[u8]; 8] = [
        b"",
        b"\0\xff\x1b",
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"POST /status HTTP/1.1\r\nhost: h\r\ncontent-length: 18446744073709551615\r\n\r\n",
        b"POST /status HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"DELETE / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for request in requests {
        let mut stream = connect();
        let _ = stream.write_all(request);
        let mut answer = [0; 64];
        let len = stream.read(&mut answer).unwrap_or_default();
        assert!(!answer[..len].starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(request));
    }
    // Requests and headers without end.
    for (head, piece) in
        [("GET /", "x"), ("GET /status HTTP/1.1\r\n", "a: b\r\n"), ("GET /status HTTP/1.1\r\na:", "b")]
    {
        let mut stream = connect();
        let _ = stream.write_all(head.as_bytes());
        let pieces = piece.repeat(1 << 16);
        let taken = (0..1000).take_while(|_| stream.write_all(pieces.as_bytes()).is_ok()).count();
        assert!(taken < 1000, "{head} goes on for ever");
    }
    // More connections than there may be, each with a request whose answer nobody reads.
    let held: Vec<_> = (0..100)
        .filter_map(|_| {
            let mut stream = UnixStream::connect(&path).ok()?;
            stream.set_write_timeout(Some(Duration::from_secs(1))).ok()?;
            stream.write_all(b"GET /status HTTP/1.1\r\nhost: h\r\n\r\n").ok()?;
            Some(stream)
        })
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", rig.pid().as_raw_nonzero())).unwrap().count();
    assert!(descriptors < 100, "{descriptors} descriptors are open");
    // The service does its work meanwhile, and is asked again once they are gone.
    rig.write("b", "2");
    rig.settled().await;
    drop(held);
    rig.assert_all_holds().await;
    assert!(rig.peak_memory_kib() < 128 << 10);
    rig.stop().await;
}
