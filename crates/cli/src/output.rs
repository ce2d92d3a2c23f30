//! What commands print: tables for people, JSON and plain lines for programs.
//!
//! Invariant: results go to standard output and nothing else does, so that it can be piped; a
//! reader that goes away early is no error.

use std::fmt::Write as _;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use model::size::ByteSize;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::failure::Failure;

/// The form of results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// The service's own JSON
    Json,
    /// One line per row, tabs between cells, no header
    Plain,
}

/// One column: its title and the cell of an item.
pub(crate) type Column<T> = (&'static str, fn(&T) -> String);

/// A resource that can stand in a list.
pub(crate) trait Listed: Serialize + Sized + 'static {
    /// Plural, for the sentence that says there are none.
    const WORD: &'static str;
    const COLUMNS: &'static [Column<Self>];
}

/// A list in the form asked for.
pub(crate) fn list<T: Listed>(format: Format, items: &[T]) -> Result<(), Failure> {
    if items.is_empty() && format == Format::Table {
        note(&format!("There are no {}.", T::WORD));
        return Ok(());
    }
    write(&list_text(format, items)?)
}

/// One resource in the form asked for: its fields, a line each.
pub(crate) fn show(format: Format, item: &impl Serialize) -> Result<(), Failure> {
    write(&show_text(format, item)?)
}

/// A sentence for people, on standard error: what was done where there is nothing to show.
pub(crate) fn note(sentence: &str) {
    // A terminal that is gone needs no sentence.
    let _ = writeln!(io::stderr(), "{}", visible(sentence));
}

/// Write to standard output as it is.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io { what: "standard output".into(), why })
        }
        _ => Ok(()),
    }
}

fn list_text<T: Listed>(format: Format, items: &[T]) -> Result<String, Failure> {
    if format == Format::Json {
        return json(&items);
    }
    let titles = T::COLUMNS.iter().map(|(title, _)| (*title).to_owned()).collect();
    let rows =
        items.iter().map(|item| T::COLUMNS.iter().map(|(_, cell)| visible(&cell(item))).collect());
    Ok(lines(format, Some(titles), rows.collect()))
}

fn show_text(format: Format, item: &impl Serialize) -> Result<String, Failure> {
    if format == Format::Json {
        return json(item);
    }
    let text = serde_json::to_string(item).map_err(unwritable)?;
    let fields: Fields = serde_json::from_str(&text).map_err(unwritable)?;
    let row = |(name, value): &(String, Value)| match name.strip_suffix("_bytes") {
        Some(size) if value.is_u64() => {
            vec![size.to_owned(), ByteSize(value.as_u64().unwrap_or_default()).to_string()]
        }
        _ => vec![name.clone(), visible(&readable(value))],
    };
    Ok(lines(format, None, fields.0.iter().map(row).collect()))
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(unwritable)
}

fn unwritable(why: serde_json::Error) -> Failure {
    Failure::work(format!("the answer cannot be shown: {why}"))
}

fn lines(format: Format, titles: Option<Vec<String>>, rows: Vec<Vec<String>>) -> String {
    if format == Format::Plain {
        return rows.iter().fold(String::new(), |text, row| text + &row.join("\t") + "\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(titles) = titles {
        table.set_header(titles.into_iter().map(|title| title.to_uppercase()).collect::<Vec<_>>());
    }
    table.add_rows(rows);
    let mut text = String::new();
    for line in table.lines() {
        let line = line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Text from elsewhere must not steer the terminal or break a line in two.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A JSON value in a cell.
fn readable(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "-".into(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", readable(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// An object's fields in the order of the text, which a map would lose.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Order;
        impl<'de> Visitor<'de> for Order {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Order)
    }
}

/// A moment without fractions of a second.
pub(crate) fn moment(at: &jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    ByteSize(count).to_string()
}

/// How old something is.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// A value that may be missing.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Thing {
        name: String,
        size_bytes: u64,
        attachments: Vec<String>,
        error: Option<String>,
    }

    impl Listed for Thing {
        const WORD: &'static str = "things";
        const COLUMNS: &'static [Column<Self>] =
            &[("name", |thing| thing.name.clone()), ("size", |thing| bytes(thing.size_bytes))];
    }

    fn things(count: u64) -> Vec<Thing> {
        let thing = |n| Thing {
            name: format!("v{n}"),
            size_bytes: (n + 1) << 30,
            attachments: vec!["a".into(), "b".into()],
            error: None,
        };
        (0..count).map(thing).collect()
    }

    #[test]
    fn lists_of_none_one_and_a_thousand() {
        for count in [0, 1, 1000] {
            let items = things(count);
            let table = list_text(Format::Table, &items).unwrap();
            let plain = list_text(Format::Plain, &items).unwrap();
            let json = list_text(Format::Json, &items).unwrap();
            let rows = usize::try_from(count).unwrap();
            assert_eq!(table.lines().count(), rows + 1);
            assert_eq!(plain.lines().count(), rows);
            assert_eq!(serde_json::from_str::<Vec<Value>>(&json).unwrap().len(), rows);
            assert!(table.starts_with("NAME"), "{table}");
        }
        assert_eq!(list_text(Format::Plain, &things(1)).unwrap(), "v0\t1 GiB\n");
        let table = list_text(Format::Table, &things(1000)).unwrap();
        assert_eq!(table.lines().last(), Some("v999  1000 GiB"));
    }

    #[test]
    fn one_thing_shows_its_fields_in_their_order() {
        let table = show_text(Format::Table, &things(1)[0]).unwrap();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("name") && lines[0].ends_with("v0"), "{table}");
        assert!(lines[1].starts_with("size ") && lines[1].ends_with("1 GiB"), "{table}");
        assert!(lines[2].ends_with("a, b") && lines[3].ends_with('-'), "{table}");
        let json = show_text(Format::Json, &things(1)[0]).unwrap();
        assert!(json.contains("\"size_bytes\": 1073741824"), "{json}");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let mut items = things(1);
        items[0].name = "a\u{1b}[2J\nb".into();
        let plain = list_text(Format::Plain, &items).unwrap();
        assert_eq!(plain.lines().count(), 1);
        assert!(!plain.contains('\u{1b}'), "{plain}");
    }

    #[test]
    fn moments_are_whole_seconds() {
        let at = jiff::Timestamp::from_millisecond(1_500).unwrap();
        assert_eq!(moment(&at), "1970-01-01 00:00:01Z");
        assert_eq!(or_dash(None::<u8>), "-");
        assert_eq!([950, 59_999, 60_000, 7_200_000].map(age), ["0.9 s", "59.9 s", "1 min", "2 h"]);
    }
}
