//! `reelgate config show` and `reelgate config schema`

use super::{ConfigFile, print};
use std::process::ExitCode;

/// Show the configuration in effect, or the schema of the file.
#[derive(clap::Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print the configuration in effect: defaults filled in, secrets as ***.
    #[command(after_help = "Example:
  reelgate config show -c conf/reelgate.yaml")]
    Show(ConfigFile),
    /// Print the JSON Schema (draft 7) of the file, for editors.
    #[command(after_help = "Example:
  reelgate config schema > reelgate.schema.json
  # then, on the first line of the YAML file:
  # yaml-language-server: $schema=./reelgate.schema.json")]
    Schema,
}

impl ConfigCommand {
    pub fn run(self) -> ExitCode {
        match self.action {
            Action::Show(file) => match file.load() {
                Ok(loaded) => print(&crate::config::show(&loaded)),
                Err(code) => code,
            },
            Action::Schema => print(&format!("{:#}\n", crate::config::schema())),
        }
    }
}
