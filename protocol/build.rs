//! Generates the types of the contract from `proto/bowline.proto`, with serde attributes that make their JSON what the
//! schema's conventions say. Messages with a oneof get both traits written out: serde's `flatten` would turn an error
//! inside the oneof into silence.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use prost_build::Config;
use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=proto/bowline.proto");
    let set = protox::compile(["proto/bowline.proto"], ["proto"])?;
    let file = set.file.iter().find(|f| f.package() == "bowline.v1").ok_or("no package bowline.v1")?;

    let mut config = Config::new();
    let mut generated = String::new();
    for message in &file.message_type {
        describe(message, &mut config, &mut generated)?;
    }
    write_enums(file, &mut generated)?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("json.rs"), generated)?;
    config.compile_fds(set.clone())?;
    Ok(())
}

/// Sets the serde attributes of one message or, where it has a oneof, writes its serde traits and its list of kinds.
fn describe(message: &DescriptorProto, config: &mut Config, generated: &mut String) -> Result<()> {
    if let Some(oneof) = message.oneof_decl.iter().find(|o| !o.name().starts_with('_')) {
        return write_oneof_message(message, oneof.name(), generated);
    }
    let path = format!(".bowline.v1.{}", message.name());
    let derived = "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default, remote = \"Self\")]";
    config.message_attribute(&path, derived);
    for field in &message.field {
        config.field_attribute(format!("{path}.{}", field.name()), attributes(field));
    }
    write_object_message(message.name(), generated)
}

/// Serde's derived reader would take an array of the fields' values as well. `remote` leaves it as a plain function, and
/// the trait calls it for objects alone.
fn write_object_message(name: &str, out: &mut String) -> Result<()> {
    write!(
        out,
        r#"
impl crate::json::Object for {name} {{
    fn from_fields<'de, D: serde::Deserializer<'de>>(fields: D) -> Result<Self, D::Error> {{
        {name}::deserialize(fields)
    }}
}}

impl<'de> serde::Deserialize<'de> for {name} {{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {{
        crate::json::object_of(deserializer)
    }}
}}

impl serde::Serialize for {name} {{
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {{
        {name}::serialize(self, serializer)
    }}
}}
"#
    )?;
    Ok(())
}

fn attributes(field: &FieldDescriptorProto) -> String {
    let mut parts = Vec::new();
    if field.label() == Label::Repeated {
        parts.push("skip_serializing_if = \"Vec::is_empty\"".to_owned());
    } else if field.proto3_optional() {
        parts.push("skip_serializing_if = \"Option::is_none\"".to_owned());
    }
    if let Some(module) = codec(field) {
        parts.push(format!("with = \"{module}\""));
    }
    if parts.is_empty() { String::new() } else { format!("#[serde({})]", parts.join(", ")) }
}

/// The serde module (or type with the same two functions) of a field whose JSON is not serde's own.
fn codec(field: &FieldDescriptorProto) -> Option<String> {
    let shape = match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => "list",
        (_, true) => "optional",
        _ => "single",
    };
    match field.r#type() {
        Type::Bytes => Some(format!("crate::json::uuid::{shape}")),
        Type::Uint64 | Type::Int64 if shape != "list" => Some(format!("crate::json::whole::{shape}")),
        Type::Enum => {
            let of = field.type_name().rsplit('.').next().unwrap_or_default();
            let names = if shape == "list" { "Names" } else { "Name" };
            Some(format!("crate::json::{names}::<{of}>"))
        }
        Type::String if field.name() == "attrs" => Some("crate::json::object".to_owned()),
        _ => None,
    }
}

fn write_oneof_message(message: &DescriptorProto, oneof: &str, out: &mut String) -> Result<()> {
    let name = message.name();
    let variants = format!("{}::{}", snake(name), camel(oneof));
    let (mut read, mut write) = (String::new(), String::new());
    let (mut read_kinds, mut write_kinds, mut names) = (String::new(), String::new(), String::new());
    for field in &message.field {
        let key = field.name();
        if field.oneof_index.is_none() || field.proto3_optional() {
            write_field(field, &mut read, &mut write)?;
        } else {
            let variant = format!("{variants}::{}", camel(key));
            writeln!(
                read_kinds,
                "\"{key}\" => {{ crate::json::only_one(&this.{oneof})?; this.{oneof} = Some({variant}(map.next_value()?)); }}"
            )?;
            writeln!(write_kinds, "Some({variant}(value)) => map.serialize_entry(\"{key}\", value)?,")?;
            writeln!(names, "\"{key}\",")?;
        }
    }
    write!(
        out,
        r#"
impl {name} {{
    /// The wire names of the kinds that this contract knows.
    pub const KINDS: &'static [&'static str] = &[{names}];
}}

impl serde::Serialize for {name} {{
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {{
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        {write}
        match &self.{oneof} {{
            {write_kinds}
            None => {{}}
        }}
        map.end()
    }}
}}

impl<'de> serde::Deserialize<'de> for {name} {{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {{
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {{
            type Value = {name};
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
                f.write_str("an object")
            }}
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<{name}, A::Error> {{
                let mut this = {name}::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {{
                    match &*key {{
                        {read}{read_kinds}
                        _ => {{ map.next_value::<serde::de::IgnoredAny>()?; }}
                    }}
                }}
                Ok(this)
            }}
        }}
        deserializer.deserialize_map(Visitor)
    }}
}}
"#
    )?;
    Ok(())
}

/// One plain field of a message with a oneof, in both directions.
fn write_field(field: &FieldDescriptorProto, read: &mut String, write: &mut String) -> Result<()> {
    let (key, ty) = (field.name(), rust_type(field));
    let value = match codec(field) {
        Some(module) => {
            writeln!(
                read,
                "\"{key}\" => {{ #[derive(serde::Deserialize)] struct Value(#[serde(with = \"{module}\")] {ty}); \
                 this.{key} = map.next_value::<Value>()?.0; }}"
            )?;
            format!(
                "{{ struct Value<'a>(&'a {ty}); impl serde::Serialize for Value<'_> {{ \
                 fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {{ {module}::serialize(self.0, s) }} }} \
                 Value(&self.{key}) }}"
            )
        }
        None => {
            writeln!(read, "\"{key}\" => this.{key} = map.next_value()?,")?;
            format!("self.{key}")
        }
    };
    let present = match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => format!("!self.{key}.is_empty()"),
        (_, true) => format!("self.{key}.is_some()"),
        _ => "true".to_owned(),
    };
    writeln!(write, "if {present} {{ map.serialize_entry(\"{key}\", &{value})?; }}")?;
    Ok(())
}

fn rust_type(field: &FieldDescriptorProto) -> String {
    let plain = match field.r#type() {
        Type::Bytes => "Vec<u8>",
        Type::Uint64 => "u64",
        Type::Int64 => "i64",
        Type::Enum => "i32",
        _ => "String",
    };
    match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => format!("Vec<{plain}>"),
        (_, true) => format!("Option<{plain}>"),
        _ => plain.to_owned(),
    }
}

/// Enums stand in JSON by their names, without the prefix that proto3 wants and in lower case.
fn write_enums(file: &FileDescriptorProto, out: &mut String) -> Result<()> {
    for of in &file.enum_type {
        let name = of.name();
        writeln!(out, "impl crate::json::Named for {name} {{")?;
        writeln!(out, "    const NAMES: &'static [(i32, &'static str)] = &[")?;
        let prefix = format!("{}_", snake(name).to_uppercase());
        for value in &of.value {
            let short = value.name().trim_start_matches(&prefix).to_lowercase();
            writeln!(out, "        ({}, \"{short}\"),", value.number())?;
        }
        writeln!(out, "    ];\n}}")?;
    }
    Ok(())
}

fn snake(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.char_indices() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn camel(snake: &str) -> String {
    snake.split('_').map(|w| w[..1].to_uppercase() + &w[1..]).collect()
}
