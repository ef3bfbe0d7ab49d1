//! `Serialize` with the field names of `--json`, which do not change.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::address::Address;
use crate::protocol::Protocol;

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Address", 4)?;
        fields.serialize_field("proto", &self.protocol)?;
        fields.serialize_field("address", &self.socket)?;
        fields.serialize_field("v6only", &self.v6only)?;
        fields.serialize_field("device", &self.device)?;
        fields.end()
    }
}
