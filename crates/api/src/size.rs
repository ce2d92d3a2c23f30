//! Sizes in requests: a number of bytes, or a text such as `10g`.

use std::borrow::Cow;

use model::size::ByteSize;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// A size as a request may write it. Views show sizes as plain numbers of bytes instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Size(pub ByteSize);

impl From<ByteSize> for Size {
    fn from(size: ByteSize) -> Self {
        Self(size)
    }
}

impl From<Size> for ByteSize {
    fn from(size: Size) -> Self {
        size.0
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size: a number of bytes, or a text such as \"10g\"")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(ByteSize(bytes)))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes)
            .map(|bytes| Size(ByteSize(bytes)))
            .map_err(|_| E::custom(format_args!("{bytes} is not a size; it must not be negative")))
    }

    /// A JSON number beyond 64 bits arrives as a float, as does one with a fraction.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Size, E> {
        Err(E::custom(if number.fract() == 0.0 {
            format!("{number} is larger than any volume can be")
        } else {
            format!("{number} is not a whole number of bytes")
        }))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map(Size).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl PartialSchema for Size {
    fn schema() -> RefOr<Schema> {
        let bytes = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0));
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(r"^\s*[0-9]+\s*([kKmMgGtTpP]([iI]?[bB])?|[bB])?\s*$"))
            .examples(["10g", "512 MiB"]);
        OneOfBuilder::new()
            .item(bytes)
            .item(text)
            .description(Some("A number of bytes, or a number with a binary unit."))
            .into()
    }
}

impl ToSchema for Size {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_sizes_and_the_rest_says_why_not() {
        let read = |json: &str| serde_json::from_str::<Size>(json);
        assert_eq!(read("1048576").unwrap().0, ByteSize(1 << 20));
        assert_eq!(read("\"10g\"").unwrap().0, ByteSize::gib(10));
        assert_eq!(read("0").unwrap().0, ByteSize(0));
        for (json, why) in [
            ("18446744073709551616", "larger than any volume"),
            ("\"18446744073709551616\"", "larger than any volume"),
            ("-1", "must not be negative"),
            ("1.5", "not a whole number"),
            ("\"ten\"", "is not a size"),
            ("true", "a number of bytes, or a text"),
        ] {
            let text = read(json).unwrap_err().to_string();
            assert!(text.contains(why), "{json}: {text}");
        }
        assert_eq!(serde_json::to_string(&Size(ByteSize(5))).unwrap(), "5");
    }
}
