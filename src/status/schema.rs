//! `config/status.schema.json` is what the types of the report say, with their comments.
//!
//! `UPDATE_SCHEMA=1 cargo test --lib schema` writes it anew.

use std::fs;
use std::path::Path;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::Value;

use super::Report;

const FILE: &str = "config/status.schema.json";

const ABOUT: &str = "What `oxen-sync status --json` prints, and the service answers at `/status` of its socket and \
    `/api/status` of its page. Every field is there, and null where nothing is known. Later versions only add fields.";

/// Lines of a comment are broken for this code alone, and a default is for a reader of older reports.
fn for_readers(schema: &mut Schema) {
    schema.remove("default");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("\n\n", "\0").replace('\n', " ").replace('\0', "\n\n");
    }
    transform_subschemas(&mut for_readers, schema);
}

fn of_the_types() -> String {
    // What is written, not what is also read: each field is there, if only as null.
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(for_readers);
    let mut schema = settings.into_generator().into_root_schema_for::<Report>();
    schema.insert("$id".to_owned(), "urn:oxen-sync:status".into());
    schema.insert("title".to_owned(), "The report of oxen-sync".into());
    schema.insert("description".to_owned(), ABOUT.into());
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

#[test]
fn the_schema_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let schema = of_the_types();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(file, schema).unwrap();
    } else {
        let said = fs::read_to_string(file).unwrap_or_default();
        assert!(
            said == schema,
            "{FILE} is not what the types of the report say; UPDATE_SCHEMA=1 mends it:\n{schema}"
        );
    }
}
