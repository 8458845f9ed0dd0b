//! The configuration as a person types it. One struct per block; each key's comment is its description in the schema and
//! in `conf/README.md`, each `Default` the only place where its default stands.
//!
//! Raw types are filled from a tree that was checked against their own schema, so they hold no text of a wrong form. They
//! still may contradict themselves (a site whose origin does not exist): `build` says so. They never leave this room.

mod access;
mod compression;
mod listen;
mod origin;
mod site;
mod transcode;

pub use access::*;
pub use compression::*;
pub use listen::*;
pub use origin::*;
pub use site::*;
pub use transcode::*;

use super::built::Secret;
use super::units::{ByteSize, TimeSpan, WriteBudget};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The configuration of Reelgate.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listen", "origins", "sites"]))]
pub struct RawConfig {
    /// Where clients connect; at least one.
    #[schemars(length(min = 1))]
    pub listen: Vec<RawListen>,
    /// What no client may exceed, on every listener.
    pub limits: RawLimits,
    /// Networks (CIDR) or addresses whose `X-Forwarded-*`, `Forwarded` and PROXY headers are believed.
    #[schemars(transform = items("network"))]
    pub trusted_proxies: Vec<String>,
    /// Where answers come from, by name; the name is a metric label.
    #[schemars(extend("propertyNames" = { "format": "label" }))]
    pub origins: BTreeMap<String, RawOrigin>,
    /// Which requests go to which origin, and what is done to them; at least one.
    #[schemars(length(min = 1))]
    pub sites: Vec<RawSite>,
    /// How much is kept.
    pub cache: RawCache,
    /// Which answers are compressed, how, and what of it is kept.
    pub compression: RawCompression,
    /// The operators' listener: dashboard, metrics, API. Without this block there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<RawAdmin>,
    /// What is logged.
    pub log: RawLog,
    /// How it stops.
    pub shutdown: RawShutdown,
    /// Worker threads; default: one per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// Fetching what will be watched next. Accepted with a warning: not built yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<serde_json::Value>,
    /// Adaptive streams of a library's films, and rungs added to HLS origins, made on demand by a second process.
    pub transcode: RawTranscode,
}

/// `cache`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawCache {
    /// Bound of the RAM store: bodies, headers and bookkeeping.
    pub memory: ByteSize,
    /// Disks of the store, one or a list. Without one, all is kept in `memory` and gone after a restart.
    pub disk: OneOrMany<RawDisk>,
    /// An object larger than this is passed on but not kept; never more than `memory`.
    pub object_max: ByteSize,
    /// Huge objects kept in parts.
    pub slices: RawSlices,
    /// Whether a fetch goes on, to be kept, when its client has left and nobody else waits for it: `always`, `half` (at least half of it is
    /// there) or `never`.
    pub background_fill: RawBackgroundFill,
    /// How long a request waits for the headers of the same request already on its way, before it asks the origin itself.
    #[schemars(extend("format" = "positive-time-span"))]
    pub collapse_timeout: TimeSpan,
    /// A client that takes less than a MiB in this time does not keep in memory what it has yet to read: when room is needed, it goes on
    /// from the disk, else from the origin, else it is cut off.
    #[schemars(extend("format" = "positive-time-span"))]
    pub hold_timeout: TimeSpan,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(512),
            disk: OneOrMany::default(),
            object_max: ByteSize::mib(64),
            slices: RawSlices::default(),
            background_fill: RawBackgroundFill::default(),
            collapse_timeout: TimeSpan::secs(10),
            hold_timeout: TimeSpan::secs(5),
        }
    }
}

/// `cache.slices`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSlices {
    /// Keep what answers ranges in parts: only what was asked for is fetched, and whatever its size it is kept.
    pub enabled: bool,
    /// A smaller object is fetched and kept whole.
    pub min_size: ByteSize,
    /// How far ahead of one client the origin is asked at most; what a client gets of it grows with its pace.
    pub read_ahead: ByteSize,
}

impl Default for RawSlices {
    fn default() -> Self {
        Self { enabled: true, min_size: ByteSize::mib(8), read_ahead: ByteSize::mib(8) }
    }
}

/// One entry of `cache.disk`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path", "size"]))]
pub struct RawDisk {
    /// Folder for this disk's part of the store.
    #[schemars(extend("format" = "non-empty"))]
    pub path: String,
    /// How much of the disk is used.
    pub size: ByteSize,
    /// Written at most, to spare the SSD: bytes a day (`500GiB`), bytes a second (`20MiB/s`) or drive writes per day
    /// (`0.5dwpd`, of `size`). Without it there is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_budget: Option<WriteBudget>,
    /// What is written: `all`, or `second_hit`: only what was asked for before lately.
    pub admit: RawDiskAdmission,
}

/// `cache.disk.admit`
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RawDiskAdmission {
    #[default]
    All,
    SecondHit,
}

/// `cache.background_fill`
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RawBackgroundFill {
    #[default]
    Always,
    Half,
    Never,
}

impl Default for RawDisk {
    fn default() -> Self {
        Self { path: String::new(), size: ByteSize(0), write_budget: None, admit: RawDiskAdmission::default() }
    }
}

/// `admin`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawAdmin {
    /// IP address and port. Beyond loopback it needs `token`.
    #[schemars(extend("format" = "socket-address"))]
    pub address: String,
    /// What operators send as `Authorization: Bearer …`; empty: none. Best from the environment:
    /// `${REELGATE_TOKEN}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<RawSecret>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { address: "127.0.0.1:9090".to_owned(), token: None }
    }
}

/// `shutdown`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawShutdown {
    /// How long answers in flight may go on after SIGTERM.
    pub drain_timeout: TimeSpan,
    /// How long `/readyz` already fails while connections are still accepted, for load balancers to notice.
    pub notice: TimeSpan,
}

impl Default for RawShutdown {
    fn default() -> Self {
        Self { drain_timeout: TimeSpan::secs(30), notice: TimeSpan::secs(0) }
    }
}

/// A schema's `transform`: gives the entries of a list their format.
fn items(format: &'static str) -> impl Fn(&mut Schema) {
    move |schema| {
        if let Some(entries) = schema.get_mut("items").and_then(serde_json::Value::as_object_mut) {
            entries.insert("format".to_owned(), format.into());
        }
    }
}

/// One value or a list of them; serialised as a list.
#[derive(Clone, PartialEq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Many(Vec<T>),
            One(T),
        }
        Either::deserialize(deserializer).map(|either| match either {
            Either::Many(list) => Self(list),
            Either::One(one) => Self(vec![one]),
        })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A [`Secret`] in the file: read as text, shown as `***`.
#[derive(Clone, PartialEq)]
pub struct RawSecret(pub Secret);

impl Serialize for RawSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(super::show::MASK)
    }
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl JsonSchema for RawSecret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}
