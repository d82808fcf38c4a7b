//! `instances`: a list whose elements are rows, read straight into one tensor for each input. A row is an object that
//! names its values, or the value itself where the model has one input.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};

use crate::http::error::shown;
use crate::model::spec::{Port, names};
use crate::tensor::Tensor;
use crate::tensor::json::{Column, Room};

const FIELD: &str = "instances";

/// The whole list: one tensor per port, in their order, all of them with as many rows.
pub(super) struct Rows<'a> {
    pub(super) ports: &'a [Port],
    pub(super) room: &'a Room<'a>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = Vec<Tensor>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = Vec<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FIELD}: a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let ports = self.ports;
        let column = |port: &Port| Ok(Column::new(FIELD, port.dtype, self.room.take(port.dtype)?));
        let mut columns = ports.iter().map(column).collect::<Result<Vec<_>, A::Error>>()?;
        let mut number = 0;
        while list.next_element_seed(Row { ports, columns: &mut columns, number })?.is_some() {
            number += 1;
        }
        Ok(columns.into_iter().map(Column::finish).collect())
    }
}

/// One of them.
struct Row<'c, 'a> {
    ports: &'a [Port],
    columns: &'c mut [Column<'a>],
    number: usize,
}

impl Row<'_, '_> {
    /// The value itself; `what` it is, for models that need more.
    fn only<'de, D: Deserializer<'de>>(self, what: &str, value: D) -> Result<(), D::Error> {
        let [column] = self.columns else {
            let (number, names) = (self.number, names(self.ports));
            return Err(D::Error::custom(format_args!("{FIELD}[{number}]: {what}, expected an object with {names}")));
        };
        column.row(None).deserialize(value)
    }
}

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FIELD}[{}]: a row", self.number)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        let Self { ports, columns, number } = self;
        while let Some(index) = row.next_key_seed(Name { ports, number })? {
            let (column, name) = (&mut columns[index], ports[index].name.as_str());
            if column.rows() > number {
                return Err(A::Error::custom(format_args!("{FIELD}[{number}]: {name} is given twice")));
            }
            row.next_value_seed(column.row(Some(name)))?;
        }
        match columns.iter().zip(ports).find(|(column, _)| column.rows() == number) {
            Some((_, Port { name, .. })) => {
                let names = names(ports);
                Err(A::Error::custom(format_args!("{FIELD}[{number}]: {name} is missing, expected {names}")))
            }
            None => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<(), A::Error> {
        self.only("an array", SeqAccessDeserializer::new(sequence))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.only("a number", value.into_deserializer())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.only("a number", value.into_deserializer())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.only("a number", value.into_deserializer())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.only("a boolean", value.into_deserializer())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.only("a text", value.into_deserializer())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.only("null", ().into_deserializer())
    }
}

/// The name of a value in a row: the port's place. No text is made of it, since there may be millions.
struct Name<'a> {
    ports: &'a [Port],
    number: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of an input")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        self.ports.iter().position(|port| port.name == name).ok_or_else(|| {
            let (number, names) = (self.number, names(self.ports));
            E::custom(format_args!("{FIELD}[{number}]: unknown name {:?}, expected {names}", shown(name)))
        })
    }
}
