//! Takes secrets out of a config's text before any of it is shown beside a caret, and what a terminal would act on.
//!
//! No secret belongs in the file, and a config that holds one is refused; but the refusal shows the line. What
//! may be a secret is found in the text itself and not in the parsed document, so that a line that TOML cannot
//! read is covered as well. Hiding too much is harmless.

use super::schema::looks_secret;
use crate::path::is_printable;

/// `text` with every character of a likely secret replaced by `*`s of the same length in bytes, so that byte
/// positions stay true.
pub(super) fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let line = mask_user_info(line);
        match secret_start(&line) {
            Some(at) => {
                masked.push_str(&line[..at]);
                hide(&line[at..], &mut masked);
            }
            None => masked.push_str(&line),
        }
    }
    if masked.contains(acts) { masked.chars().flat_map(shown).collect() } else { masked }
}

/// Whether a terminal may act on a character instead of showing it. The renderer has signs of its own for those of ASCII.
fn acts(c: char) -> bool {
    !c.is_ascii() && !is_printable(c.encode_utf8(&mut [0; 4]))
}

fn shown(c: char) -> impl Iterator<Item = char> {
    let (shown, count) = if acts(c) { ('?', c.len_utf8()) } else { (c, 1) };
    std::iter::repeat_n(shown, count)
}

/// Hides what stands between `://` and the last `@` before the URL's end.
fn mask_user_info(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        masked.push_str(before);
        let end = after.find(['"', '\'']).unwrap_or(after.len());
        let user_info = after[..end].rfind('@').unwrap_or(0);
        hide(&after[..user_info], &mut masked);
        rest = &after[user_info..];
    }
    masked.push_str(rest);
    masked
}

/// Where the value begins that follows the first key that looks like a secret's.
fn secret_start(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(equals) = line[from..].find('=') {
        let at = from + equals;
        let key = line[from..at].trim_end().trim_end_matches(['"', '\'']);
        let key = key.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next()?;
        // An escape can hide what is looked for, and no URL needs one.
        let escaped = matches!(key, "url" | "proxy") && line[at..].contains('\\');
        if escaped || looks_secret(key) {
            return Some(at + 1);
        }
        from = at + 1;
    }
    None
}

fn hide(secret: &str, masked: &mut String) {
    for c in secret.chars() {
        if c.is_whitespace() || matches!(c, '"' | '\'') {
            masked.push(c);
        } else {
            masked.extend(std::iter::repeat_n('*', c.len_utf8()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_may_be_a_secret_is_hidden() {
        let table = [
            ("url = \"http://me:pä@h.lab\"", "url = \"http://******@h.lab\""),
            ("url = \"http://me:a/b@c@h.lab/x\"", "url = \"http://********@h.lab/x\""),
            ("url = http://me:x@h.lab", "url = http://****@h.lab"),
            ("api_key = \"abc\" # x", "api_key = \"***\" * *"),
            (
                "server = { url = \"http://h\", token = \"abc\" }",
                "server = { url = \"http://h\", token = \"***\" *",
            ),
            ("server.'auth-token'=abc", "server.'auth-token'=***"),
            ("# key = abc", "# key = ***"),
            ("url = \"http:\\u002f/me:x@h\"", "url = \"******************\""),
        ];
        for (text, masked) in table {
            assert_eq!(mask(text), masked);
        }
        for plain in
            ["url = \"http://h.lab:3000\"", "key_file = \"/etc/key\"", "[author]\nemail = \"a@b.c\"\n"]
        {
            assert_eq!(mask(plain), plain);
        }
    }

    proptest! {
        #[test]
        fn positions_stay_true(text in "(\\PC|://|@|=|key|\n){0,60}") {
            let masked = mask(&text);
            prop_assert_eq!(masked.len(), text.len());
            for (at, _) in text.char_indices() {
                prop_assert!(masked.is_char_boundary(at));
            }
        }
    }
}
