//! `reelgate scan`

use super::{ConfigFile, print};
use crate::app::Scanned;
use crate::origin::library::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write;
use std::process::ExitCode;

/// Redrawn so often at most, per second.
const DRAWS_PER_SECOND: u8 = 10;

/// Look into all films of the libraries now, and say which are broken.
///
/// Fills the index (`origins.*.index`) ahead of time; a running edge finds what is in it. It may be ended at any time and
/// goes on where it was. Nothing is written to the folders of films.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  reelgate scan -c conf/library.yaml
  reelgate scan -c conf/library.yaml --origin films
Exit codes: 0 done (broken films are listed, and no failure), 1 a folder, the index or a film could not be read, 2 invalid.")]
pub struct Scan {
    #[command(flatten)]
    file: ConfigFile,
    /// Only this origin.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
}

impl Scan {
    pub fn run(self) -> ExitCode {
        let loaded = match self.file.load() {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        let scanned = crate::app::scan(&loaded.config, self.origin.as_deref(), |origin, progress| {
            show(&bar, origin, progress);
        });
        bar.finish_and_clear();
        match scanned {
            Ok(all) => {
                let printed = print(&all.iter().map(report).collect::<String>());
                let failed = |scanned: &Scanned| !scanned.filled.trouble.is_empty() || scanned.filled.failed > 0;
                if all.iter().any(failed) { ExitCode::FAILURE } else { printed }
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn show(bar: &ProgressBar, origin: &str, progress: Progress) {
    let (template, length, position) = match progress {
        Progress::Scanning { found } => ("{msg}: {pos} titles found", None, found),
        Progress::LookingInto { done, films } => {
            ("{msg} [{bar:30}] {pos} of {len} films, {eta} left", Some(films as u64), done)
        }
    };
    let is_new = bar.length() != length || bar.message() != origin || position == 0;
    if is_new && let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
        bar.set_message(origin.to_owned());
        match length {
            Some(length) => bar.set_length(length),
            None => bar.unset_length(),
        }
        bar.reset_eta();
    }
    bar.set_position(position as u64);
}

/// One library: a line, what went wrong, and a table of what is broken.
fn report(scanned: &Scanned) -> String {
    let Scanned { origin, filled, forgets, looked } = scanned;
    let counts = filled.counts;
    let mut text = format!("{origin}: {} titles", counts.titles);
    // Writing to a String cannot fail.
    if *looked {
        let _ = write!(text, ", {} of {} films looked into, {} broken", counts.probed, counts.films, counts.broken);
    } else {
        text += "; no film was looked into (`transcode` is off, or ffmpeg is missing)";
    }
    text.push('\n');
    for trouble in &filled.trouble {
        let _ = writeln!(text, "warning: {trouble}");
    }
    if filled.failed > 0 {
        let _ = writeln!(text, "warning: {} films could not be looked into this time", filled.failed);
    }
    if *forgets {
        let _ = writeln!(text, "warning: nothing is kept; set origins.{origin}.index, or a cache.disk");
    }
    let width = filled.broken.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, reason) in &filled.broken {
        let name: String = name.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
        let _ = writeln!(text, "  {name:width$}  {reason}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::library::{Counts, Filled};

    #[test]
    fn a_report_says_what_is_broken_and_what_went_wrong() {
        let filled = Filled {
            counts: Counts { titles: 3, films: 2, probed: 2, broken: 2 },
            failed: 1,
            broken: vec![("a".into(), "the file is empty".into()), ("long\u{1b}".into(), "no video".into())],
            trouble: vec!["cannot read /x".into()],
        };
        let scanned = Scanned { origin: "films".into(), filled, forgets: true, looked: true };
        let expected = "films: 3 titles, 2 of 2 films looked into, 2 broken\nwarning: cannot read /x\n\
             warning: 1 films could not be looked into this time\n\
             warning: nothing is kept; set origins.films.index, or a cache.disk\n  \
             a      the file is empty\n  long\u{fffd}  no video\n";
        assert_eq!(report(&scanned), expected);
    }
}
