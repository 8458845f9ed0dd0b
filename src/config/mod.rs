//! Configuration in two stages: raw serde types (as typed by a person), then built types (validated, defaults filled in).
//! Only built types travel to other rooms.
//!
//! `tree` (YAML, with places) → `decode` (variables, then the tree against the schema of `raw`) → `build` (what contradicts
//! itself; built types). Each stage reports everything it finds to `diagnose` and hands on what is good.
//!
//! Invariant: this room knows no other above `http` and `media`, opens no sockets, starts no tasks, and reads no file but
//! the configuration itself.

mod build;
mod built;
mod decode;
mod diagnose;
mod formats;
mod interpolate;
mod raw;
mod show;
mod tree;
mod units;

#[cfg(test)]
mod tests;

pub use built::*;
pub use diagnose::{Diagnostic, Diagnostics, Place, Severity};
pub use units::{ByteSize, TimeSpan};

use build::Builder;
use decode::Decoder;
use raw::RawConfig;
use schemars::generate::SchemaSettings;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A configuration that may be used.
pub struct Loaded {
    pub config: Config,
    /// What works but deserves a look.
    pub warnings: Diagnostics,
    /// Files to watch: the configuration, certificates, keys, authorities. Absolute where `path` was.
    pub files: Vec<PathBuf>,
    /// For `show`. Holds header values in clear, so nothing else may print it.
    raw: RawConfig,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Reads and validates a file; variables come from the environment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    // Relative paths start at the file's folder, wherever the process goes later.
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let unreadable = |error: std::io::Error| {
        Diagnostics::whole_file(path, format!("cannot read the file: {error}"), Some("give its path with -c FILE"))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // One byte more than allowed, so that `from_str` sees that it is too large.
    let mut bytes = Vec::new();
    file.take(tree::FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Diagnostics::whole_file(path, "the file is not UTF-8 text", Some("save it as UTF-8")))?;
    from_str(&text, path, &|name| std::env::var(name).ok())
}

/// Validates `text` as if it stood in the file `path`; `lookup` gives the value of a variable.
///
/// # Errors
/// Everything that is wrong with it.
pub fn from_str(text: &str, path: &Path, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    let source = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Diagnostics::new(path);
    let root = tree::parse(source, path, &mut found)?;
    let mut decoder = Decoder { source, lookup, found: &mut found, places: decode::Places::default() };
    let value = decoder.decode(&root, &SCHEMA, "").unwrap_or_default();
    let places = decoder.places;
    let value = if value.is_object() { value } else { serde_json::json!({}) };
    let mut raw: RawConfig = match serde_json::from_value(value) {
        Ok(raw) => raw,
        // The decoder lets nothing pass that the raw types refuse; should it ever, this is still an answer.
        Err(error) => return Err(Diagnostics::whole_file(path, format!("cannot be read: {error}"), None)),
    };
    build::complete(&mut raw, path.parent().unwrap_or(Path::new("")));
    let origin_names = match root.get("origins").map(|node| &node.value) {
        Some(tree::NodeValue::Map(entries)) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
        _ => Vec::new(),
    };
    let builder = Builder { raw: &raw, places: &places, origin_names: &origin_names, source, found: &mut found };
    let config = builder.build(path);
    found.sort();
    match config {
        Some(config) => {
            let files = files(&config);
            Ok(Loaded { config, warnings: found, files, raw })
        }
        None => Err(found),
    }
}

/// The JSON Schema (draft 7) of a configuration.
pub fn schema() -> serde_json::Value {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<RawConfig>().to_value()
});

/// The effective configuration as YAML, defaults filled in, secrets as `***`; it loads again to the same configuration,
/// secrets aside.
pub fn show(loaded: &Loaded) -> String {
    show::yaml(&loaded.raw)
}

/// Keys that differ and take effect only after a restart.
pub fn restart_differences(old: &Config, new: &Config) -> Vec<&'static str> {
    let address = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
    let token = |config: &Config| config.admin.as_ref().and_then(|admin| admin.token.clone());
    [
        ("listen", old.listen != new.listen),
        ("cache.memory", old.cache.memory_bytes != new.cache.memory_bytes),
        ("cache.disk", old.cache.disks != new.cache.disks),
        ("cache.hold_timeout", old.cache.hold_timeout != new.cache.hold_timeout),
        ("cache.object_max", old.cache.object_bytes_max != new.cache.object_bytes_max),
        ("admin.address", address(old) != address(new)),
        ("admin.token", token(old) != token(new)),
        ("log.level", old.log.level != new.log.level),
        ("transcode", old.transcode != new.transcode),
        ("workers", old.worker_threads != new.worker_threads),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = vec![config.file.clone()];
    for certificate in config.listen.iter().flat_map(|listen| &listen.tls) {
        if let Certificate::Files { cert, key } = certificate {
            files.extend([cert.clone(), key.clone()]);
        }
    }
    for origin in &config.origins {
        if let OriginKind::Http(http) = &origin.kind {
            files.extend(http.tls.ca.clone());
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    files
}
