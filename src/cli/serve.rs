//! `reelgate serve`

use super::ConfigFile;
use std::process::ExitCode;

/// Run the edge until SIGTERM; SIGHUP or a change of the file reloads it.
#[derive(clap::Args)]
#[command(after_help = "Example:
  reelgate serve -c conf/reelgate.yaml")]
pub struct Serve {
    #[command(flatten)]
    file: ConfigFile,
}

impl Serve {
    pub fn run(self) -> ExitCode {
        match self.file.load() {
            Ok(loaded) => crate::app::serve(loaded),
            Err(code) => code,
        }
    }
}
