//! Objects whose fields are written where their values are, without a struct for each.

use serde::ser::{self, Serialize, Serializer};

/// A value that is written as an object with these fields, in this order.
macro_rules! object {
    ($($field:ident: $value:expr),+ $(,)?) => {
        $crate::output::json::Object($crate::output::json::fields!($($field: $value),+))
    };
}
pub(crate) use object;

/// The fields as a list: the first name, the first value, the other fields.
macro_rules! fields {
    () => { () };
    ($field:ident: $value:expr $(, $other:ident: $others:expr)*) => {
        (stringify!($field), $value, $crate::output::json::fields!($($other: $others),*))
    };
}
pub(crate) use fields;

/// The fields of an object.
pub(crate) struct Object<Fields>(pub(crate) Fields);

pub(crate) trait ObjectFields {
    const COUNT: usize;

    fn write<S: ser::SerializeStruct>(&self, to: &mut S) -> Result<(), S::Error>;
}

impl ObjectFields for () {
    const COUNT: usize = 0;

    fn write<S: ser::SerializeStruct>(&self, _: &mut S) -> Result<(), S::Error> {
        Ok(())
    }
}

impl<T: Serialize, Rest: ObjectFields> ObjectFields for (&'static str, T, Rest) {
    const COUNT: usize = Rest::COUNT + 1;

    fn write<S: ser::SerializeStruct>(&self, to: &mut S) -> Result<(), S::Error> {
        to.serialize_field(self.0, &self.1)?;
        self.2.write(to)
    }
}

impl<Fields: ObjectFields> Serialize for Object<Fields> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Object", Fields::COUNT)?;
        self.0.write(&mut fields)?;
        ser::SerializeStruct::end(fields)
    }
}
