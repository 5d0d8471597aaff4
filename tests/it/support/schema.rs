//! Whether a report is what `config/status.schema.json` says: a reader of JSON Schema for the words that this file uses, and no
//! others. Unlike a program that reads reports of later versions, it takes no field that the schema does not name.

use std::sync::LazyLock;

use serde_json::{Value, json};

const FILE: &str = include_str!("../../../config/status.schema.json");
static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(FILE).unwrap());

/// Says what of a report is not as the schema says.
///
/// # Errors
/// The first such thing, with its place.
pub(crate) fn check_report(report: &Value) -> Result<(), String> {
    check(&SCHEMA, report, "report")
}

fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(words) = schema.as_object() else { panic!("{schema} is no schema") };
    for (word, said) in words {
        match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "format" => {}
            "$ref" => {
                let name = said.as_str().and_then(|name| name.strip_prefix("#/$defs/")).unwrap();
                check(&SCHEMA["$defs"][name], value, at)?;
            }
            "type" => {
                let is_one = |name: &Value| is_of(value, name.as_str().unwrap());
                let fits = said.as_array().map_or_else(|| is_one(said), |names| names.iter().any(is_one));
                held(fits, || format!("{at} is {value}, which is no {said}"))?;
            }
            "minimum" => {
                let least = said.as_f64().unwrap();
                held(value.as_f64().is_none_or(|number| number >= least), || format!("{at} is {value}"))?;
            }
            "const" => held(value == said, || format!("{at} is {value}, not {said}"))?,
            "anyOf" | "oneOf" => {
                let fits =
                    said.as_array().unwrap().iter().filter(|one| check(one, value, at).is_ok()).count();
                held(fits == 1 || (fits > 1 && word == "anyOf"), || format!("{at} is {value}"))?;
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(said, item, &format!("{at}[{n}]"))?;
                }
            }
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let of_field = said.get(name).ok_or_else(|| format!("{at} has a field {name}"))?;
                    check(of_field, field, &format!("{at}.{name}"))?;
                }
            }
            "required" => {
                for name in said.as_array().unwrap().iter().filter_map(Value::as_str) {
                    held(value.get(name).is_some(), || format!("{at} has no field {name}"))?;
                }
            }
            _ => panic!("the schema says {word}, which nothing here reads"),
        }
    }
    Ok(())
}

fn held(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("the schema names the type {name}"),
    }
}

#[test]
fn what_the_schema_does_not_say_is_found() {
    let folder = oxen_sync::status::FolderReport::default();
    let report = oxen_sync::status::Report::without_service("/c.toml".as_ref(), &[], None).unwrap();
    let report = oxen_sync::status::Report { folders: vec![folder], ..report };
    let good = serde_json::to_value(report).unwrap();
    check_report(&good).unwrap();
    for (place, wrong, said) in [
        ("/pid", json!(-1), "report.pid is -1"),
        ("/running", json!("yes"), "no \"boolean\""),
        ("/page", json!({ "url": "http://127.0.0.1:7710/" }), "report.page is"),
        ("/folders/0/state", json!("idle"), "report.folders[0].state is"),
        ("/folders/0/files", json!(1.5), "no \"integer\""),
        ("/folders/0/busy_paths", json!([7]), "busy_paths[0] is 7"),
        ("/folders/0", json!({}), "report.folders[0] has no field"),
    ] {
        let mut report = good.clone();
        *report.pointer_mut(place).unwrap() = wrong;
        let error = check_report(&report).unwrap_err();
        assert!(error.contains(said), "{place}: {error}");
    }
    let mut report = good;
    report["folders"][0]["mood"] = json!("fine");
    assert_eq!(check_report(&report), Err("report.folders[0] has a field mood".to_owned()));
}
