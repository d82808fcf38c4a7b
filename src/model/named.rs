//! `{"image": [[…]], …}`: tensors by the names of a spec's ports, as golden files and request bodies carry them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::spec::{Port, names};
use crate::tensor::Tensor;
use crate::tensor::json::{Nested, Room};

/// An object of named tensors: exactly one per port, in any order; returned in the ports' order.
pub struct Named<'a> {
    pub ports: &'a [&'a Port],
    pub room: &'a Room<'a>,
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Vec<Tensor>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Vec<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", names(self.ports.iter().copied()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let names = || names(self.ports.iter().copied());
        let mut tensors: Vec<Option<Tensor>> = vec![None; self.ports.len()];
        while let Some(key) = map.next_key::<String>()? {
            let Some(index) = self.ports.iter().position(|port| port.name == key) else {
                let shown: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!("unknown name {shown:?}, expected {}", names())));
            };
            if tensors[index].is_some() {
                return Err(A::Error::custom(format_args!("{key:?} is given twice")));
            }
            let port = self.ports[index];
            let seed = Nested { field: &port.name, dtype: port.dtype, bytes: self.room.take(port.dtype)? };
            tensors[index] = Some(map.next_value_seed(seed)?);
        }
        let given = tensors.iter().zip(self.ports);
        if let Some((_, port)) = given.clone().find(|(tensor, _)| tensor.is_none()) {
            return Err(A::Error::custom(format_args!("{:?} is missing, expected {}", port.name, names())));
        }
        Ok(tensors.into_iter().flatten().collect())
    }
}
