//! `reelgate check`: everything wrong with a file at once; with `--online`, also what it refers to.

mod certificate;
mod encoders;
mod online;
mod origin;
mod transcoder;

use super::{ConfigFile, EXIT_INVALID, print, report};
use crate::config::{Diagnostics, Loaded};
use online::{Outcome, Probe};
use std::fmt::Write;
use std::process::ExitCode;

/// Say everything that is wrong with a configuration.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  reelgate check -c conf/reelgate.yaml
  reelgate check -c conf/reelgate.yaml --online        also ask the origins, read certificates and folders, try encoders
  reelgate check -c conf/reelgate.yaml --format json   for scripts
Exit codes: 0 good or warnings only, 1 something is unreachable (--online), 2 invalid.")]
pub struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Also resolve names, connect to every origin server, read certificates and folders, try every encoder on every device.
    #[arg(long)]
    online: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    Human,
    Json,
}

impl Check {
    pub fn run(self) -> ExitCode {
        let (diagnostics, loaded) = match crate::config::load(&self.file.path) {
            Ok(loaded) => (loaded.warnings.clone(), Some(loaded)),
            Err(errors) => (errors, None),
        };
        let probes = match &loaded {
            Some(loaded) if self.online => match online::probe(&loaded.config) {
                Ok(probes) => Some(probes),
                Err(error) => {
                    eprintln!("error: cannot start the checks: {error}");
                    return ExitCode::FAILURE;
                }
            },
            _ => None,
        };
        match self.format {
            Format::Human => human(&diagnostics, loaded.as_ref(), probes.as_deref()),
            Format::Json => json(&diagnostics, loaded.is_some(), probes.as_deref()),
        }
        let failed = probes.iter().flatten().any(|probe| probe.outcome == Outcome::Failed);
        match loaded {
            None => ExitCode::from(EXIT_INVALID),
            Some(_) if failed => ExitCode::FAILURE,
            Some(_) => ExitCode::SUCCESS,
        }
    }
}

fn human(diagnostics: &Diagnostics, loaded: Option<&Loaded>, probes: Option<&[Probe]>) {
    use crate::config::Severity;
    report(diagnostics);
    let (errors, warnings) = (diagnostics.count(Severity::Error), diagnostics.count(Severity::Warning));
    let mut out = String::new();
    if let Some(probes) = probes {
        out.push_str(&table(probes));
    }
    let file = diagnostics.file.display();
    // Writing to a String cannot fail.
    let _ = match loaded {
        Some(_) => writeln!(out, "{file}: valid, {warnings} warning(s)"),
        None => writeln!(out, "{file}: invalid, {errors} error(s), {warnings} warning(s)"),
    };
    print(&out);
}

fn json(diagnostics: &Diagnostics, valid: bool, probes: Option<&[Probe]>) {
    let document = serde_json::json!({
        "file": diagnostics.file,
        "valid": valid,
        "diagnostics": diagnostics.list,
        "omitted": diagnostics.omitted,
        "online": probes,
    });
    print(&format!("{document:#}\n"));
}

/// One line per probe, columns aligned.
fn table(probes: &[Probe]) -> String {
    let width =
        |column: fn(&Probe) -> &str| probes.iter().map(|probe| column(probe).chars().count()).max().unwrap_or(0);
    let (subjects, targets) = (width(|probe| &probe.subject), width(|probe| &probe.target));
    let mut out = String::new();
    for probe in probes {
        let outcome = match probe.outcome {
            Outcome::Good => "ok  ",
            Outcome::Warning => "warn",
            Outcome::Absent => "none",
            Outcome::Failed => "FAIL",
        };
        let _ = writeln!(out, "{outcome}  {:subjects$}  {:targets$}  {}", probe.subject, probe.target, probe.detail);
    }
    out
}
