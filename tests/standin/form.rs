//! Reading multipart forms as the real server's reader does, where that matters.

use axum::body::Bytes;

/// One part of a form.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content: std::ops::Range<usize>,
    /// Its head and its content.
    whole: std::ops::Range<usize>,
}

/// The parts of `body`, or what is wrong with it.
pub(crate) fn parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>, String> {
    let opening = format!("--{}", boundary_of(content_type).ok_or("no boundary")?);
    let delimiter = format!("\r\n{opening}");
    let mut at = find(body, 0, opening.as_bytes()).ok_or("the first boundary is missing")? + opening.len();
    let mut parts = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if !rest.starts_with(b"\r\n") {
            return Err("a boundary does not end its line".to_owned());
        }
        let head_end = find(body, at, b"\r\n\r\n").ok_or("a part's head does not end")?;
        let head = &body[at + 2..head_end.max(at + 2)];
        let content_end = find(body, head_end + 4, delimiter.as_bytes()).ok_or("a part does not end")?;
        let mut part = head_of(head, head_end + 4..content_end)?;
        part.whole = at + 2..content_end;
        parts.push(part);
        at = content_end + delimiter.len();
    }
}

fn boundary_of(content_type: &str) -> Option<&str> {
    let boundary = content_type.split(';').find_map(|param| param.trim().strip_prefix("boundary="))?;
    let is_one = content_type.starts_with("multipart/") && !boundary.is_empty();
    is_one.then(|| boundary.trim_matches('"'))
}

/// The form without the second half of its files, and their names.
pub(crate) fn first_half(content_type: &str, body: &[u8]) -> Option<(Bytes, Vec<String>)> {
    let (parts, boundary) = (parts(content_type, body).ok()?, boundary_of(content_type)?);
    let is_file = |part: &&Part| part.filename.is_some();
    let keep = parts.iter().filter(is_file).count() / 2;
    let lost: Vec<&Part> = parts.iter().filter(is_file).skip(keep).collect();
    let mut form = Vec::new();
    for part in parts.iter().filter(|part| lost.iter().all(|lost| lost.whole != part.whole)) {
        form.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        form.extend_from_slice(body.get(part.whole.clone())?);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Some((Bytes::from(form), lost.iter().filter_map(|part| part.filename.clone()).collect()))
}

fn head_of(head: &[u8], content: std::ops::Range<usize>) -> Result<Part, String> {
    let mut part = Part { name: String::new(), filename: None, content_type: None, content, whole: 0..0 };
    // A header of HTTP/1 holds no control characters but tab.
    let text = std::str::from_utf8(head).map_err(|_| "a part's head is not UTF-8")?;
    for line in text.split("\r\n") {
        if line.bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
            return Err("a part's head holds control characters".to_owned());
        }
        let (name, value) = line.split_once(':').ok_or("a line of a part's head has no colon")?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-type") {
            part.content_type = Some(value.to_ascii_lowercase());
        } else if name.eq_ignore_ascii_case("content-disposition") {
            part.name = param(value, "name").ok_or("a part has no name")?;
            part.filename = param(value, "filename");
        }
    }
    if part.name.is_empty() { Err("a part has no name".to_owned()) } else { Ok(part) }
}

/// A parameter's value; inside quotes a backslash stands for the character behind it.
fn param(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, params)) = rest.split_once(';') {
        let (name, value) = params.trim_start().split_once('=')?;
        let mut text = String::new();
        rest = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut chars = quoted.chars();
                loop {
                    match chars.next()? {
                        '"' => break chars.as_str(),
                        '\\' => text.push(chars.next()?),
                        c => text.push(c),
                    }
                }
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                text.push_str(value[..end].trim());
                &value[end..]
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
    }
    None
}

fn find(body: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut at = from;
    loop {
        at += body.get(at..)?.iter().position(|byte| byte == first)?;
        if body[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}
