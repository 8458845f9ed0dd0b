//! `reelgate explain`

use super::admin_client::AdminClient;
use super::{ConfigFile, print};
use crate::config::Loaded;
use std::path::PathBuf;
use std::process::ExitCode;

/// Say which site, class, key, tier and lifetime a URL has, and why.
///
/// With a configuration file the running edge is asked at the file's `admin.address`; where none answers, the file alone
/// is read, and nothing is known of what is stored.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  reelgate explain -c conf/reelgate.yaml 'http://media.example/videos/1/main.m3u8?x=y'
  REELGATE_TOKEN=… reelgate explain --admin http://10.0.0.5:9090 http://media.example/a.jpg")]
#[command(group = clap::ArgGroup::new("edge").required(true).args(["path", "admin"]))]
pub struct Explain {
    /// Configuration file (YAML).
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
    /// Admin address of a running edge; the token comes from REELGATE_TOKEN.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
    /// The URL as a client asks for it.
    url: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Yaml,
    Json,
}

impl Explain {
    pub fn run(self) -> ExitCode {
        let explained = match (&self.admin, &self.path) {
            (Some(admin), _) => AdminClient::at(admin).and_then(|client| client.explain(&self.url)),
            (None, Some(path)) => match (ConfigFile { path: path.clone() }).load() {
                Ok(loaded) => explain_by_file(&loaded, &self.url),
                Err(code) => return code,
            },
            (None, None) => unreachable!("clap requires one of them"),
        };
        let explained = explained.and_then(|value| match self.format {
            Format::Yaml => serde_yaml::to_string(&value).map_err(|error| error.to_string()),
            Format::Json => serde_json::to_string_pretty(&value).map_err(|error| error.to_string()),
        });
        match explained {
            Ok(text) => print(&format!("{}\n", text.trim_end())),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(1)
            }
        }
    }
}

/// From the running edge, else from the file.
fn explain_by_file(loaded: &Loaded, url: &str) -> Result<serde_json::Value, String> {
    let by_file = crate::app::explain(&loaded.config, url)?;
    let running = loaded.config.admin.as_ref().map(AdminClient::of).map(|client| client.explain(url));
    match running {
        Some(Ok(explained)) => Ok(explained),
        Some(Err(reason)) => {
            eprintln!("note: {reason}; explaining from the file alone");
            Ok(by_file)
        }
        None => Ok(by_file),
    }
}
