//! Arguments → configuration → app. One file per command; what a command does lives in the rooms below.
//!
//! Exit codes: 0 good (also: warnings only), 1 failed or something unreachable, 2 bad usage or configuration.

mod admin_client;
mod check;
mod config;
mod explain;
mod optimise;
mod purge;
mod replay;
mod scan;
mod serve;

use crate::config::{Diagnostics, Loaded};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Bad usage or configuration; also clap's own code.
const EXIT_INVALID: u8 = 2;

/// A media edge: caches playback in front of Jellyfin, Plex or any HLS, DASH or HTTP origin.
#[derive(Parser)]
#[command(
    name = "reelgate",
    version,
    after_help = "Examples:
  reelgate check -c conf/reelgate.yaml     what is wrong with the file, all of it
  reelgate serve -c conf/reelgate.yaml     run
Exit codes: 0 good, 1 failed, 2 bad usage or configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Config(config::ConfigCommand),
    Explain(explain::Explain),
    Optimise(optimise::Optimise),
    Purge(purge::Purge),
    Replay(replay::Replay),
    Scan(scan::Scan),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:
  reelgate completions bash > /etc/bash_completion.d/reelgate")]
    Completions {
        /// The shell that will read it.
        shell: clap_complete::Shell,
    },
}

/// The file a command works on.
#[derive(clap::Args)]
struct ConfigFile {
    /// Configuration file (YAML).
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: PathBuf,
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
        Command::Config(config) => config.run(),
        Command::Explain(explain) => explain.run(),
        Command::Optimise(optimise) => optimise.run(),
        Command::Purge(purge) => purge.run(),
        Command::Replay(replay) => replay.run(),
        Command::Scan(scan) => scan.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "reelgate", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

impl ConfigFile {
    /// The configuration, its warnings printed; or the exit code, its errors printed.
    fn load(&self) -> Result<Loaded, ExitCode> {
        match crate::config::load(&self.path) {
            Ok(loaded) => {
                report(&loaded.warnings);
                Ok(loaded)
            }
            Err(errors) => {
                report(&errors);
                Err(ExitCode::from(EXIT_INVALID))
            }
        }
    }
}

/// Prints diagnostics to standard error; in colour only on a terminal and without `NO_COLOR` (no-color.org).
fn report(diagnostics: &Diagnostics) {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut stderr = std::io::stderr();
    // Nobody is left to tell if standard error is closed.
    let _ = stderr.write_all(diagnostics.render(wanted && stderr.is_terminal()).as_bytes());
}

/// Prints to standard output. A reader that left early (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_contradict_nothing() {
        Arguments::command().debug_assert();
    }
}
