//! Which servers a config names, and what goes over a network.

use super::*;

#[test]
fn a_page_for_the_network_needs_a_permission() {
    let page = |lines: &str| with(&format!("[page]\n{lines}"));
    for (lines, listen) in [
        ("", None),
        ("allow_network = true", None),
        ("listen = \"127.0.0.1:7710\"", Some("127.0.0.1:7710")),
        ("listen = \"127.9.9.9:1\"", Some("127.9.9.9:1")),
        ("listen = \"[::1]:7710\"", Some("[::1]:7710")),
        ("listen = \"0.0.0.0:7710\"\nallow_network = true", Some("0.0.0.0:7710")),
    ] {
        let wanted = listen.map(|listen| Page { listen: listen.parse().unwrap(), key_file: None });
        assert_eq!(good(&page(lines)).page, wanted, "{lines}");
    }
    for listen in ["0.0.0.0:7710", "192.0.2.7:7710", "[::]:7710", "[::ffff:192.0.2.7]:7710"] {
        let said = told(&page(&format!("listen = \"{listen}\"\nallow_network = false")));
        assert!(said.contains("allow_network = true"), "{listen}: {said}");
    }
    for listen in ["localhost:7710", "7710", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ""] {
        let said = told(&page(&format!("listen = \"{listen}\"")));
        assert!(said.contains("127.0.0.1:7710"), "{listen}: {said}");
    }
}

#[test]
fn a_folder_chooses_its_server_by_name() {
    let text = "[author]\nname = \"r\"\nemail = \"r@l.e\"\n[servers.hub]\nurl = \"https://hub.oxen.ai/api/\"\n\
        [[folder]]\npath = \"~/x/./y//\"\nrepo = \"lab/cells\"\nserver = \"hub\"\n";
    let config = good(text);
    let server = &config.folders[0].server;
    assert_eq!((server.name.as_str(), server.url.as_str()), ("hub", "https://hub.oxen.ai/api"));
    assert_eq!(config.folders[0].path.as_os_str(), "/home/u/x/y");
    assert!(!server.is_default());
    let both = good(&with("[[folder]]\npath = \"/b\"\nrepo = \"lab/b1\""));
    assert!(Arc::ptr_eq(&both.folders[0].server, &both.folders[1].server));
}

#[test]
fn http_to_another_host_needs_a_permission() {
    let table = [
        ("http://localhost:3000", "", false),
        ("HTTP://LOCALHOST", "", false),
        ("http://127.0.0.1", "", false),
        ("http://127.8.9.10:3000", "", false),
        ("http://0x7f.1", "", false),
        ("http://[::1]:3000", "", false),
        ("http://[::ffff:127.0.0.1]:3000", "", false),
        ("https://oxen.lab", "", false),
        ("https://oxen.lab", "http://proxy.lab:3128", false),
        ("http://localhost:3000", "http://127.0.0.1:3128", false),
        ("http://localhost:3000", "https://proxy.lab:3128", false),
        ("http://localhost:3000", "http://proxy.lab:3128", true),
        ("http://oxen.lab", "http://127.0.0.1:3128", true),
        ("http://oxen.lab", "https://proxy.lab:3128", true),
        ("http://oxen.lab", "", true),
        ("http://10.0.0.7:3000", "", true),
        ("http://0.0.0.0:3000", "", true),
        ("http://[::ffff:10.0.0.7]", "", true),
        ("http://[fe80::1]", "", true),
        // A resolver may ask the network for all of these.
        ("http://localhost.:3000", "", true),
        ("http://rig.localhost:3000", "", true),
        ("http://localhost.evil.example", "", true),
        ("http://127.0.0.1.evil.example", "", true),
    ];
    for (url, proxy, clear) in table {
        let proxy = if proxy.is_empty() { String::new() } else { format!("\nproxy = \"{proxy}\"") };
        let text = SMALLEST.replace("http://localhost:3000\"", &format!("{url}\"{proxy}"));
        let refused = read(&text).err().map(|problems| problems.to_string()).unwrap_or_default();
        assert_eq!(refused.contains("without TLS"), clear, "{text}\n{refused}");
        for (allowed, is_refused) in [("false", clear), ("true", false)] {
            let text = text.replace("[author]", &format!("allow_http = {allowed}\n[author]"));
            assert_eq!(read(&text).is_err(), is_refused, "{text}");
            if let Ok(config) = read(&text) {
                assert_eq!(config.folders[0].server.sends_in_the_clear(), clear, "{text}");
            }
        }
    }
}

#[test]
fn what_http_puts_at_stake_is_told_at_the_url_with_both_ways_out() {
    let text = SMALLEST.replace("localhost", "oxen.lab");
    assert_eq!(
        told(&text),
        "2:7 without TLS, others on the network can read and change the files, and read the API key | write https://, \
         or, where everyone on the network is trusted, allow_http = true below the url"
    );
    let by_proxy = SMALLEST.replace("[author]", "proxy = \"http://proxy.lab:3128\"\n[author]");
    let shown = bad(&by_proxy).to_string();
    assert!(shown.contains("^^^") && shown.contains("by way of this proxy"), "{shown}");
    // Each server needs its own permission.
    let two = format!("{}\n[servers.lab]\nurl = \"http://10.0.0.7\"\n", with("server = \"lab\""));
    assert!(told(&two.replace("[author]", "allow_http = true\n[author]")).contains(":7 without TLS"));
    good(&format!("{two}allow_http = true\n"));
}

#[test]
fn an_empty_table_of_servers_is_no_server() {
    let text =
        "[servers]\n[author]\nname = \"a\"\nemail = \"a@b\"\n[[folder]]\npath = \"/a\"\nrepo = \"lab/a1\"\n";
    let problems = parse(text, Path::new("/c.toml"), &Env::default()).unwrap_err().to_string();
    assert!(problems.contains("server"), "{problems}");
}
