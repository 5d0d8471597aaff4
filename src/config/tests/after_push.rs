//! Files that are taken off after they were pushed: where that would lose some, the config is refused.

use super::*;

#[test]
fn after_push_is_read() {
    let action = |lines: &str| good(&with(lines)).folders[0].after_push.clone();
    assert_eq!(action("").action, TakeOff::Keep);
    let deleted = action("after_push.do = \"delete\"\nafter_push.min_age = \"36h\"");
    assert_eq!(deleted, AfterPush { action: TakeOff::Delete, min_age: Duration::from_secs(36 * 3600) });
    let moved = action("after_push = { do = \"move\", move_to = \"~/pushed/\" }");
    assert_eq!(moved.action, TakeOff::Move("/home/u/pushed".into()));
}

#[test]
fn a_folder_takes_from_the_defaults_what_it_does_not_say() {
    let defaults = |lines: &str| SMALLEST.replace("[[folder]]", &format!("[defaults]\n{lines}\n[[folder]]"));
    let text = format!("{}after_push.move_to = \"/data/pushed\"\n", defaults("after_push.do = \"move\""));
    assert_eq!(good(&text).folders[0].after_push.action, TakeOff::Move("/data/pushed".into()));
    let text = defaults("after_push.do = \"delete\"\non_delete = \"mirror\"");
    assert!(told(&text).contains("be nowhere"), "{}", told(&text));
    good(&format!("{text}on_delete = \"keep\"\n"));
}

#[test]
fn what_would_lose_files_is_refused() {
    let other = "[[folder]]\npath = \"/data/camera/raw\"\nrepo = \"lab/raw\"\n";
    let shared = format!("after_push.do = \"delete\"\n{other}");
    let table = [
        ("after_push.do = \"remove\"", "must be one of \"keep\", \"delete\", \"move\""),
        ("after_push.do = \"move\"", "nothing says where to"),
        (
            "after_push.do = \"delete\"\non_delete = \"mirror\"",
            "would be removed from the branch, and be nowhere",
        ),
        ("after_push.do = \"move\"\nafter_push.move_to = \"pushed\"", "not an absolute path"),
        (
            "after_push.do = \"move\"\nafter_push.move_to = \"/data/camera/pushed\"",
            "lie one inside the other",
        ),
        ("after_push.do = \"move\"\nafter_push.move_to = \"/data\"", "lie one inside the other"),
        ("after_push.do = \"delete\"\nafter_push.min_age = \"9999d\"", "`after_push.min_age`"),
        (shared.as_str(), "that another folder watches too"),
    ];
    for (lines, message) in table {
        assert!(told(&with(lines)).contains(message), "{lines}\n{}", told(&with(lines)));
    }
    let elsewhere = other.replace("camera/raw", "camera-2");
    good(&with(&format!("after_push.do = \"delete\"\n{elsewhere}")));
    let told = told(&with("after_push.do = \"delete\"\non_delete = \"mirror\""));
    assert!(told.starts_with("9:") && told.contains("| write on_delete = \"keep\""), "{told}");
}
