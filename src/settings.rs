//! What every settings file has in common: named choices, per-direction values, and faults with paths.
//!
//! A *choice* is externally tagged, `{"inferline": {..}}`, or a bare `"inferline"` for a choice with its
//! defaults: only externally tagged values let an error name the exact field.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// Declares an enum of named choices, each with a settings struct: the one table of a family's names.
///
/// The settings struct must be `Deserialize` (with `deny_unknown_fields`), `Serialize`, `JsonSchema`,
/// `Debug`, `Clone`, `PartialEq`.
///
/// With `enum Name: Trait`, every settings struct implements `Trait` and `Name::settings` gives the chosen
/// one as `&dyn Trait`.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $Name:ident: $Trait:path { $($(#[$vmeta:meta])* $name:literal => $Variant:ident($Settings:ty)),+ $(,)? }) => {
        $crate::choice! { $(#[$meta])* $vis enum $Name { $($(#[$vmeta])* $name => $Variant($Settings)),+ } }

        impl $Name {
            /// The settings of the choice.
            pub fn settings(&self) -> &dyn $Trait {
                match self { $(Self::$Variant(settings) => settings),+ }
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis enum $Name:ident { $($(#[$vmeta:meta])* $name:literal => $Variant:ident($Settings:ty)),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        $vis enum $Name { $($(#[$vmeta])* #[serde(rename = $name)] $Variant($Settings)),+ }

        impl $Name {
            /// The names a settings file may use.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name of this choice as a settings file spells it.
            #[allow(dead_code, reason = "not every family asks")]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Variant(_) => $name),+ }
            }
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ChoiceVisitor;
                impl<'de> serde::de::Visitor<'de> for ChoiceVisitor {
                    type Value = $Name;

                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        write!(f, "one of the names {} or {{\"name\": {{settings}}}}", $crate::settings::quoted($Name::NAMES))
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$Name, E> {
                        match name {
                            $($name => {
                                let empty = serde::de::value::MapDeserializer::new(std::iter::empty::<(&str, &str)>());
                                <$Settings as serde::Deserialize>::deserialize(empty).map($Name::$Variant).map_err(|error: E| {
                                    E::custom(format!("{error}, which has no default: give {{\"{name}\": {{..}}}}"))
                                })
                            })+
                            other => Err(E::unknown_variant(other, $Name::NAMES)),
                        }
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$Name, A::Error> {
                        use serde::de::Error;
                        let Some(name) = map.next_key::<String>()? else {
                            return Err(A::Error::custom(format!("an empty object, expected one of {}", $crate::settings::quoted($Name::NAMES))));
                        };
                        let choice = match name.as_str() {
                            $($name => $Name::$Variant(map.next_value::<$Settings>()?),)+
                            other => return Err(A::Error::unknown_variant(other, $Name::NAMES)),
                        };
                        match map.next_key::<String>()? {
                            None => Ok(choice),
                            Some(second) => Err(A::Error::custom(format!("two choices, `{name}` and `{second}`, where one is expected"))),
                        }
                    }
                }
                deserializer.deserialize_any(ChoiceVisitor)
            }
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($Name).into() }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                // A name alone stands for its settings' defaults, where all have one.
                let has_defaults = [$(serde_json::from_value::<$Settings>(serde_json::json!({})).is_ok()),+];
                let alone: Vec<&str> = $Name::NAMES.iter().zip(has_defaults).filter(|(_, has)| *has).map(|(name, _)| *name).collect();
                let by_name = (!alone.is_empty()).then(|| schemars::json_schema!({ "enum": alone }));
                let by_settings = [
                    $({
                        let settings = generator.subschema_for::<$Settings>();
                        schemars::json_schema!({
                            "type": "object", "properties": { $name: settings },
                            "required": [$name], "additionalProperties": false,
                        })
                    }),+
                ];
                let alternatives: Vec<schemars::Schema> = by_name.into_iter().chain(by_settings).collect();
                schemars::json_schema!({ "anyOf": alternatives })
            }
        }
    };
}

/// More replicas than any service has, and no more than memory has room for.
pub const MAX_REPLICAS: u32 = 100_000;

/// Shorter than anything a control plane does, and long enough for a run to end.
pub const SHORTEST_INTERVAL_S: f64 = 1e-3;

/// `` `a`, `b`, `c` ``, for messages that list what is known.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A setting that scaling up and scaling down may need apart: one number, or `{"up": .., "down": ..}`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerDirection {
    pub up: f64,
    pub down: f64,
}

impl PerDirection {
    pub const fn both(value: f64) -> Self {
        Self { up: value, down: value }
    }
}

impl Serialize for PerDirection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if self.up == self.down {
            return serializer.serialize_f64(self.up);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("up", &self.up)?;
        map.serialize_entry("down", &self.down)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for PerDirection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PerDirectionVisitor;
        impl<'de> Visitor<'de> for PerDirectionVisitor {
            type Value = PerDirection;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, or {\"up\": number, \"down\": number}")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<PerDirection, E> {
                Ok(PerDirection::both(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<PerDirection, E> {
                Ok(PerDirection::both(value as f64))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<PerDirection, E> {
                Ok(PerDirection::both(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PerDirection, A::Error> {
                let (mut up, mut down) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "up" => up = Some(map.next_value()?),
                        "down" => down = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, &["up", "down"])),
                    }
                }
                Ok(PerDirection {
                    up: up.ok_or_else(|| de::Error::missing_field("up"))?,
                    down: down.ok_or_else(|| de::Error::missing_field("down"))?,
                })
            }
        }
        deserializer.deserialize_any(PerDirectionVisitor)
    }
}

impl JsonSchema for PerDirection {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PerDirection".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "number" },
            { "type": "object", "properties": { "up": { "type": "number" }, "down": { "type": "number" } },
              "required": ["up", "down"], "additionalProperties": false },
        ] })
    }
}

/// One thing wrong with a settings file: where, what was found, what was expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The field's path, such as `autoscalers[1].inferline.look_back_s`.
    pub path: String,
    pub message: String,
}

/// Collects every fault of a settings tree, so that a user mends a file once and not once per fault.
#[derive(Debug, Default)]
pub struct Faults {
    prefix: Vec<String>,
    pub found: Vec<Fault>,
}

impl Faults {
    /// Checks a part of the tree under a longer path.
    pub fn within(&mut self, field: impl Into<String>, check: impl FnOnce(&mut Self)) {
        self.prefix.push(field.into());
        check(self);
        self.prefix.pop();
    }

    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        let path = self
            .prefix
            .iter()
            .map(String::as_str)
            .chain((!field.is_empty()).then_some(field))
            .collect::<Vec<_>>()
            .join(".");
        self.found.push(Fault { path, message: message.into() });
    }

    pub fn require(&mut self, holds: bool, field: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.add(field, message());
        }
    }

    pub fn positive(&mut self, field: &str, value: f64) {
        self.require(value.is_finite() && value > 0.0, field, || {
            format!("{value} found, expected a finite number above 0")
        });
    }

    /// Something that happens at such distances for as long as a run lasts.
    pub fn interval_s(&mut self, field: &str, value_s: f64) {
        self.require(value_s.is_finite() && value_s >= SHORTEST_INTERVAL_S, field, || {
            format!("{value_s} found, expected a finite number of at least {SHORTEST_INTERVAL_S} (seconds)")
        });
    }

    pub fn not_negative(&mut self, field: &str, value: f64) {
        self.require(value.is_finite() && value >= 0.0, field, || {
            format!("{value} found, expected a finite number of at least 0")
        });
    }

    pub fn fraction(&mut self, field: &str, value: f64) {
        self.require((0.0..=1.0).contains(&value), field, || {
            format!("{value} found, expected a number from 0 to 1")
        });
    }

    pub fn at_least(&mut self, field: &str, value: u64, least: u64) {
        self.require(value >= least, field, || format!("{value} found, expected at least {least}"));
    }

    pub fn at_most(&mut self, field: &str, value: u64, most: u64) {
        self.require(value <= most, field, || format!("{value} found, expected at most {most}"));
    }

    pub fn both_positive(&mut self, field: &str, value: PerDirection) {
        self.positive(field, value.up);
        if value.down != value.up {
            self.positive(field, value.down);
        }
    }
}

/// The known name that `found` was most likely meant to be: at most a third of its letters, but always one,
/// are wrong.
pub fn closest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (found.chars().count() / 3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Knobs {
        speed: f64,
    }

    choice! {
        enum Demo { "plain" => Plain(Knobs), "fancy" => Fancy(Knobs) }
    }

    #[test]
    fn bare_names_stand_for_defaults() {
        assert_eq!(serde_json::from_str::<Demo>("\"plain\"").unwrap(), Demo::Plain(Knobs::default()));
        assert_eq!(
            serde_json::from_str::<Demo>(r#"{"fancy": {"speed": 2}}"#).unwrap(),
            Demo::Fancy(Knobs { speed: 2.0 })
        );
    }

    #[test]
    fn errors_name_path_and_known_names() {
        let mut json = serde_json::Deserializer::from_str(r#"{"fancy": {"sped": 2}}"#);
        let error = serde_path_to_error::deserialize::<_, Demo>(&mut json).unwrap_err();
        assert_eq!(error.path().to_string(), "fancy.sped");
        let error = serde_json::from_str::<Demo>("\"plane\"").unwrap_err().to_string();
        assert!(error.contains("`plain` or `fancy`"), "{error}");
        let error = serde_json::from_str::<Demo>(r#"{"plain": {}, "fancy": {}}"#).unwrap_err().to_string();
        assert!(error.contains("two choices"), "{error}");
    }

    #[test]
    fn per_direction_reads_both_forms() {
        assert_eq!(serde_json::from_str::<PerDirection>("80").unwrap(), PerDirection::both(80.0));
        assert_eq!(
            serde_json::from_str::<PerDirection>(r#"{"up": 1, "down": 2.5}"#).unwrap(),
            PerDirection { up: 1.0, down: 2.5 }
        );
        assert!(serde_json::from_str::<PerDirection>(r#"{"up": 1}"#).is_err());
    }
}
