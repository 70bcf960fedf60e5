//! The JSON of fields whose form is not serde's own: UUIDs, whole numbers, names of enum values, embedded objects.

use std::marker::PhantomData;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 2^53 - 1: the largest integer that every JSON reader keeps whole.
pub(crate) const MAX_WHOLE: u64 = (1 << 53) - 1;

/// A frame names one kind; two would leave open which was meant.
pub(crate) fn only_one<T, E: serde::de::Error>(already: &Option<T>) -> Result<(), E> {
    match already {
        Some(_) => Err(E::custom("more than one kind in a frame")),
        None => Ok(()),
    }
}

/// A message whose JSON is an object of its fields.
pub(crate) trait Object: Sized {
    fn from_fields<'de, D: Deserializer<'de>>(fields: D) -> Result<Self, D::Error>;
}

/// Reads a message from an object, and from nothing else.
pub(crate) fn object_of<'de, T: Object, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    struct Visitor<T>(PhantomData<T>);
    impl<'de, T: Object> serde::de::Visitor<'de> for Visitor<T> {
        type Value = T;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::from_fields(serde::de::value::MapAccessDeserializer::new(map))
        }
    }
    d.deserialize_map(Visitor(PhantomData))
}

pub(crate) mod uuid {
    use ::uuid::Uuid;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    fn parse<E: serde::de::Error>(text: &str) -> Result<Vec<u8>, E> {
        Uuid::parse_str(text).map(|u| u.as_bytes().to_vec()).map_err(|_| E::custom("not a UUID"))
    }

    fn show<E: serde::ser::Error>(bytes: &[u8]) -> Result<Uuid, E> {
        Uuid::from_slice(bytes).map_err(E::custom)
    }

    pub(crate) mod single {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
            show::<S::Error>(bytes)?.serialize(s)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
            parse(&std::borrow::Cow::<'de, str>::deserialize(d)?)
        }
    }

    pub(crate) mod optional {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
            bytes.as_deref().map(show::<S::Error>).transpose()?.serialize(s)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
            Option::<String>::deserialize(d)?.map(|t| parse(&t)).transpose()
        }
    }

    pub(crate) mod list {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
            let shown = list.iter().map(|b| show(b)).collect::<Result<Vec<_>, S::Error>>()?;
            shown.serialize(s)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
            let texts = Vec::<String>::deserialize(d)?;
            texts.iter().map(|t| parse(t)).collect()
        }
    }
}

pub(crate) mod whole {
    use super::*;

    /// An integer of the schema; both signs share the bound.
    pub(crate) trait Whole: Copy + Serialize + for<'de> Deserialize<'de> {
        fn magnitude(self) -> u64;
    }
    impl Whole for u64 {
        fn magnitude(self) -> u64 {
            self
        }
    }
    impl Whole for i64 {
        fn magnitude(self) -> u64 {
            self.unsigned_abs()
        }
    }

    fn check<T: Whole, E: serde::de::Error>(value: T) -> Result<T, E> {
        if value.magnitude() > MAX_WHOLE { Err(E::custom("an integer beyond 2^53 - 1")) } else { Ok(value) }
    }

    pub(crate) mod single {
        use super::*;

        pub(crate) fn serialize<T: Whole, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
            value.serialize(s)
        }

        pub(crate) fn deserialize<'de, T: Whole, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
            check(T::deserialize(d)?)
        }
    }

    pub(crate) mod optional {
        use super::*;

        pub(crate) fn serialize<T: Whole, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
            value.serialize(s)
        }

        pub(crate) fn deserialize<'de, T: Whole, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
            Option::<T>::deserialize(d)?.map(check).transpose()
        }
    }
}

/// The names of an enum's values, from the schema.
pub(crate) trait Named {
    const NAMES: &'static [(i32, &'static str)];
}

/// An enum field: its value's name in lower case; a value from a newer contract is `unknown` and reads as -1.
pub(crate) struct Name<T>(PhantomData<T>);

impl<T: Named> Name<T> {
    pub(crate) fn serialize<S: Serializer>(value: &i32, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(Self::of(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i32, D::Error> {
        Ok(Self::value(&std::borrow::Cow::<'de, str>::deserialize(d)?))
    }

    fn of(value: i32) -> &'static str {
        T::NAMES.iter().find(|(number, _)| *number == value).map_or("unknown", |(_, name)| name)
    }

    fn value(text: &str) -> i32 {
        T::NAMES.iter().find(|(_, name)| *name == text).map_or(-1, |(number, _)| *number)
    }
}

/// A list of what [`Name`] is one of.
pub(crate) struct Names<T>(PhantomData<T>);

impl<T: Named> Names<T> {
    pub(crate) fn serialize<S: Serializer>(values: &[i32], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|value| Name::<T>::of(*value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<i32>, D::Error> {
        Ok(Vec::<String>::deserialize(d)?.iter().map(|text| Name::<T>::value(text)).collect())
    }
}

/// A field that holds JSON: the object itself here, its text in protobuf.
pub(crate) mod object {
    use super::*;
    use serde_json::value::RawValue;

    pub(crate) fn serialize<S: Serializer>(text: &Option<String>, s: S) -> Result<S::Ok, S::Error> {
        let raw = text.as_ref().map(|t| RawValue::from_string(t.clone())).transpose();
        raw.map_err(serde::ser::Error::custom)?.serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
        let object = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(d)?;
        object.map(|o| serde_json::to_string(&o)).transpose().map_err(D::Error::custom)
    }
}
