//! `reelgate purge`

use super::admin_client::AdminClient;
use super::{ConfigFile, EXIT_INVALID, print};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Purge from a running edge's cache; returns when it is in force.
///
/// From then on no request that begins gets what was purged. URLs are absolute, as clients ask for them; scheme and port do not
/// matter, the host only where the site's key has it. Several values are several purges.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  reelgate purge -c conf/reelgate.yaml --url http://media.example/films/1/poster.jpg
  reelgate purge -c conf/reelgate.yaml --prefix http://media.example/films/1/ --soft
  reelgate purge -c conf/reelgate.yaml --tag film-1 --tag film-2
  REELGATE_TOKEN=… reelgate purge --admin http://10.0.0.5:9090 --all
Exit codes: 0 all in force, 1 refused or no answer, 2 bad usage or configuration.")]
#[command(group = clap::ArgGroup::new("selector").required(true).multiple(true).args(["urls", "prefixes", "tags", "all"]))]
#[command(group = clap::ArgGroup::new("edge").required(true).args(["path", "admin"]))]
pub struct Purge {
    /// Configuration file (YAML): the edge at its `admin.address` is asked, with its token.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
    /// Admin address of a running edge; the token comes from REELGATE_TOKEN.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// All variants of this URL.
    #[arg(long = "url", value_name = "URL", num_args = 1..)]
    urls: Vec<String>,
    /// All URLs that begin so, byte for byte.
    #[arg(long = "prefix", value_name = "PREFIX", num_args = 1..)]
    prefixes: Vec<String>,
    /// All answers whose Cache-Tag or Surrogate-Key had this tag.
    #[arg(long = "tag", value_name = "TAG", num_args = 1..)]
    tags: Vec<String>,
    /// Everything.
    #[arg(long, conflicts_with_all = ["urls", "prefixes", "tags"])]
    all: bool,
    /// Keep it as stale: revalidated before it is used again, or used where stale answers may be.
    #[arg(long)]
    soft: bool,
}

impl Purge {
    pub fn run(self) -> ExitCode {
        let client = match self.client() {
            Ok(client) => client,
            Err(code) => return code,
        };
        let mut failed = false;
        for purge in self.purges() {
            match client.purge(&purge) {
                Ok(done) => {
                    let (id, at) = (done["id"].as_str().unwrap_or_default(), done["at"].as_str().unwrap_or_default());
                    print(&format!("purged {} at {at} ({id})\n", name(&purge)));
                }
                Err(error) => {
                    eprintln!("error: {}: {error}", name(&purge));
                    failed = true;
                }
            }
        }
        if failed { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }

    fn client(&self) -> Result<AdminClient, ExitCode> {
        let invalid = |error: String| {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_INVALID)
        };
        if let Some(admin) = &self.admin {
            return AdminClient::at(admin).map_err(invalid);
        }
        let path = self.path.clone().unwrap_or_default();
        let loaded = ConfigFile { path }.load()?;
        let admin = loaded.config.admin.as_ref().map(AdminClient::of);
        admin.ok_or_else(|| invalid("the configuration has no `admin`, so its edge cannot be asked; add it".to_owned()))
    }

    /// As the API takes them.
    fn purges(&self) -> Vec<Value> {
        let soft = self.soft;
        let of = |field: &'static str, values: &[String]| {
            values.iter().map(|value| json!({ field: value, "soft": soft })).collect::<Vec<_>>()
        };
        let mut purges = of("url", &self.urls);
        purges.extend(of("prefix", &self.prefixes));
        purges.extend(of("tag", &self.tags));
        if self.all {
            purges.push(json!({ "all": true, "soft": soft }));
        }
        purges
    }
}

/// For a person, without the tokens a URL may hold.
fn name(purge: &Value) -> String {
    let text = |field: &str| {
        purge[field].as_str().map(|value| format!("{field} {}", crate::http::redact::redact_target(value)))
    };
    ["url", "prefix", "tag"].iter().find_map(|field| text(field)).unwrap_or_else(|| "all".to_owned())
}
