//! A serializer into a string that is written in blocks.

use std::fmt::{self, Write as _};
use std::io;

use serde::ser::{self, Impossible, Serialize, Serializer};

use crate::output::text::{controls_terminal, push_decimal};

pub(super) struct JsonWriter<W> {
    pub(super) to: W,
    pub(super) text: String,
    /// The text is written after an item of an array from this length on.
    pub(super) flush_at: usize,
}

#[derive(Debug)]
pub(super) struct JsonError(pub(super) io::Error);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for JsonError {}

impl ser::Error for JsonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(io::Error::other(message.to_string()))
    }
}

/// Appends to the inside of a string.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                '\u{8}' => self.0.push_str("\\b"),
                '\u{c}' => self.0.push_str("\\f"),
                // None of these is above U+FFFF.
                c if controls_terminal(c) => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// The items of an array, or the fields of an object.
pub(super) struct Items<'a, W> {
    writer: &'a mut JsonWriter<W>,
    is_first: bool,
    end: char,
}

impl<W: io::Write> Items<'_, W> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.writer.text.push(',');
        }
    }

    fn finish(self) -> Result<(), JsonError> {
        self.writer.text.push(self.end);
        Ok(())
    }
}

impl<W: io::Write> ser::SerializeSeq for Items<'_, W> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        self.separate();
        value.serialize(&mut *self.writer)?;
        if self.writer.text.len() >= self.writer.flush_at {
            self.writer.to.write_all(self.writer.text.as_bytes()).map_err(JsonError)?;
            self.writer.text.clear();
        }
        Ok(())
    }

    fn end(self) -> Result<(), JsonError> {
        self.finish()
    }
}

impl<W: io::Write> ser::SerializeTuple for Items<'_, W> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        ser::SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), JsonError> {
        self.finish()
    }
}

impl<W: io::Write> ser::SerializeMap for Items<'_, W> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), JsonError> {
        self.separate();
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        self.writer.text.push(':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), JsonError> {
        self.finish()
    }
}

impl<W: io::Write> ser::SerializeStruct for Items<'_, W> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        self.separate();
        let text = &mut self.writer.text;
        text.push('"');
        text.push_str(key);
        text.push_str("\":");
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), JsonError> {
        self.finish()
    }
}

impl<'a, W: io::Write> JsonWriter<W> {
    fn items(&'a mut self, start: char, end: char) -> Result<Items<'a, W>, JsonError> {
        self.text.push(start);
        Ok(Items { writer: self, is_first: true, end })
    }

    fn unsigned(&mut self, number: u64) -> Result<(), JsonError> {
        push_decimal(&mut self.text, number);
        Ok(())
    }

    fn signed(&mut self, number: i64) -> Result<(), JsonError> {
        if number < 0 {
            self.text.push('-');
        }
        self.unsigned(number.unsigned_abs())
    }
}

impl<'a, W: io::Write> Serializer for &'a mut JsonWriter<W> {
    type Ok = ();
    type Error = JsonError;
    type SerializeSeq = Items<'a, W>;
    type SerializeTuple = Items<'a, W>;
    type SerializeTupleStruct = Impossible<(), JsonError>;
    type SerializeTupleVariant = Impossible<(), JsonError>;
    type SerializeMap = Items<'a, W>;
    type SerializeStruct = Items<'a, W>;
    type SerializeStructVariant = Impossible<(), JsonError>;

    fn serialize_bool(self, value: bool) -> Result<(), JsonError> {
        self.text.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), JsonError> {
        self.signed(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), JsonError> {
        self.signed(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), JsonError> {
        self.signed(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), JsonError> {
        self.signed(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), JsonError> {
        self.unsigned(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), JsonError> {
        self.unsigned(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), JsonError> {
        self.unsigned(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), JsonError> {
        self.unsigned(value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), JsonError> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), JsonError> {
        if !value.is_finite() {
            return self.serialize_unit();
        }
        write!(self.text, "{value:?}").map_err(ser::Error::custom)
    }

    fn serialize_char(self, value: char) -> Result<(), JsonError> {
        self.collect_str(&value)
    }

    fn serialize_str(self, value: &str) -> Result<(), JsonError> {
        self.text.push('"');
        Escaped(&mut self.text).write_str(value).map_err(ser::Error::custom)?;
        self.text.push('"');
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        self.text.push('"');
        write!(Escaped(&mut self.text), "{value}").map_err(ser::Error::custom)?;
        self.text.push('"');
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), JsonError> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), JsonError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), JsonError> {
        self.text.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), JsonError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), JsonError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        let mut object = self.items('{', '}')?;
        ser::SerializeStruct::serialize_field(&mut object, variant, value)?;
        object.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a, W>, JsonError> {
        self.items('[', ']')
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a, W>, JsonError> {
        self.items('[', ']')
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, JsonError> {
        Err(ser::Error::custom(name))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, JsonError> {
        Err(ser::Error::custom(name))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'a, W>, JsonError> {
        self.items('{', '}')
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a, W>, JsonError> {
        self.items('{', '}')
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, JsonError> {
        Err(ser::Error::custom(name))
    }
}
