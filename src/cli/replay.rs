//! `reelgate replay`

mod input;

use super::{ConfigFile, EXIT_INVALID, print};
use crate::config::{ByteSize, Loaded};
use crate::replay::{
    Counts, Format, KeyRules, Limits, PolicyName, Report, Settings, Trace, TraceBuilder, read, simulate,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// The default sizes, in percent of the footprint.
const LADDER_PERCENT: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// What our RAM store counts for an object beside its body: bookkeeping and a head of a dozen fields.
const HEAD_BYTES: u64 = 4 * 1024;
const THREADS_MAX: usize = 4;
/// As much as a size on the command line may be.
const SIZE_BYTES_MAX: u64 = i64::MAX as u64;

/// Say what other cache sizes and policies would have made of an access log or a trace.
///
/// Only room is simulated: objects do not expire, change or vary. Ranges, 304s and HEADs count where the size of their object is
/// known from another line; a range that misses fills nothing. Credentials are masked in the log, so requests that differ
/// in one are one object. Traces that do not fit in memory are sampled by object (SHARDS), and the figures scaled.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  reelgate replay access.log
  reelgate replay -c conf/reelgate.yaml access.log.1.gz access.log
  reelgate replay --size 1GiB,10GiB,20% --policy lru,reelgate,bound access.log
  zstd -dc w44.oracleGeneral.bin.zst | reelgate replay --format oracleGeneral --sample 0.1 --json -
Exit codes: 0 good, 1 nothing usable in a log, 2 bad usage or configuration.")]
pub struct Replay {
    /// How the logs are written; default: by name, else by content.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Room for objects, like 1GiB, or like 10% of all objects' bytes; default: a ladder from 1% to 100%.
    #[arg(long = "size", value_name = "SIZE", value_delimiter = ',', value_parser = parse_size)]
    sizes: Vec<Size>,
    /// Policies to compare; default: all.
    #[arg(long = "policy", value_enum, value_name = "POLICY", value_delimiter = ',')]
    policies: Vec<PolicyName>,
    /// A larger object is not kept.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    object_max: Option<u64>,
    /// What an object takes beyond its body; default: 0, and 3KiB with -c.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    overhead: Option<u64>,
    /// Take what is not given here from a configuration: sizes (memory, and with the disks), object_max, the sites' key rules.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
    /// Look at this share of the objects only (above 0, at most 1).
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse_share)]
    sample: f64,
    /// About how much memory the replay may take; a longer trace is sampled.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_bytes)]
    memory: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Logs or traces, oldest first; `-` is standard input; .gz and .zst are unpacked.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// One value of `--size`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    Bytes(u64),
    /// Of all objects' bytes.
    Percent(f64),
}

impl Replay {
    pub fn run(self) -> ExitCode {
        let loaded = match self.path.clone().map(|path| ConfigFile { path }.load()).transpose() {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        if self.logs.iter().filter(|log| log.as_os_str() == "-").count() > 1 {
            eprintln!("error: standard input (`-`) can be read once only");
            return ExitCode::from(EXIT_INVALID);
        }
        match self.replay(loaded.as_ref()) {
            Ok(text) => print(&text),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(1)
            }
        }
    }

    fn replay(&self, loaded: Option<&Loaded>) -> Result<String, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let (trace, counts) = self.read(loaded, threads)?;
        let settings = self.settings(loaded, &trace, threads);
        let steps = trace.requests() * settings.sizes.len() * settings.policies.len();
        let bar = progress(steps as u64, "{msg} [{bar:30}] {percent} % {eta}", "replaying");
        let outcomes = simulate(&trace, &settings, &|requests| bar.inc(requests));
        bar.finish_and_clear();
        let report = Report { trace: &trace, counts, outcomes: &outcomes };
        if self.json {
            return Ok(format!("{:#}\n", report.json()));
        }
        let (plot, gap) = (report.plot(), "\n");
        let end = if plot.is_empty() { String::new() } else { format!("{gap}{plot}") };
        Ok(format!("{}{gap}{}{end}", report.summary(), report.table()))
    }

    fn read(&self, loaded: Option<&Loaded>, threads: usize) -> Result<(Trace, Counts), String> {
        let keys = loaded.map_or_else(KeyRules::plain, |loaded| KeyRules::of(&loaded.config));
        let limits = Limits { memory_bytes: self.memory, threads, sample: self.sample };
        let mut trace = TraceBuilder::new(limits);
        let mut total = Counts::default();
        for log in &self.logs {
            let name = log.display();
            let bar = progress(input::bytes(log), "{msg} [{bar:30}] {bytes} {eta}", &format!("reading {name}"));
            let mut input = input::open(log, &bar).map_err(|error| format!("{name}: {error}"))?;
            let guess = || {
                let head = input::head(&mut *input).map_err(|error| format!("{name}: {error}"))?;
                let format = Format::guess(&input::plain_name(log), head);
                format.ok_or_else(|| {
                    format!("{name}: cannot tell its format; give --format json|combined|oracleGeneral|csv")
                })
            };
            let format = self.format.map_or_else(guess, Ok)?;
            let counts = read(&mut *input, format, &keys, &mut trace).map_err(|error| format!("{name}: {error}"))?;
            bar.finish_and_clear();
            if let Some((line, what)) = counts.first_wrong {
                let wrong = counts.wrong;
                eprintln!("warning: {name}: {wrong} wrong, skipped; the first is line {line}: {what}");
            }
            total.lines += counts.lines;
            total.not_cached += counts.not_cached;
            total.wrong += counts.wrong;
        }
        let trace = trace.finish();
        if trace.requests() == 0 {
            let (lines, parts) = (total.lines, trace.size_unknown);
            return Err(format!(
                "nothing to replay: {lines} lines, none of them a request of an object of known size ({} ask no cache, {parts} \
                 are parts of unknown objects)",
                total.not_cached
            ));
        }
        Ok((trace, total))
    }

    fn settings(&self, loaded: Option<&Loaded>, trace: &Trace, threads: usize) -> Settings {
        let cache = loaded.map(|loaded| &loaded.config.cache);
        let footprint = trace.footprint_bytes();
        let of_percent = |percent: f64| (footprint as f64 * percent / 100.0).ceil() as u64;
        let mut sizes: Vec<u64> = match cache {
            _ if !self.sizes.is_empty() => {
                let bytes = |size: &Size| match *size {
                    Size::Bytes(bytes) => bytes,
                    Size::Percent(percent) => of_percent(percent),
                };
                self.sizes.iter().map(bytes).collect()
            }
            Some(cache) => {
                let memory = crate::cache::room_for_objects(cache.memory_bytes);
                let disks = cache.disks.iter().map(|disk| disk.size_bytes);
                vec![memory, disks.fold(memory, u64::saturating_add)]
            }
            None => LADDER_PERCENT.map(of_percent).to_vec(),
        };
        sizes.iter_mut().for_each(|size| *size = (*size).clamp(1, SIZE_BYTES_MAX));
        sizes.sort_unstable();
        sizes.dedup();
        let wanted = |policy: &PolicyName| self.policies.is_empty() || self.policies.contains(policy);
        Settings {
            sizes,
            policies: PolicyName::ALL.into_iter().filter(wanted).collect(),
            object_bytes_max: self.object_max.or(cache.map(|cache| cache.object_bytes_max)),
            overhead_bytes: self.overhead.unwrap_or(if cache.is_some() { HEAD_BYTES } else { 0 }),
            threads,
        }
    }
}

/// On standard error, and only if that is a terminal. A length of zero is one that is not known.
fn progress(length: u64, template: &str, message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target((length > 0).then_some(length), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(message.to_owned());
    bar
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    ByteSize::parse(text).map(|size| size.0)
}

fn parse_size(text: &str) -> Result<Size, String> {
    let Some(percent) = text.trim().strip_suffix('%') else { return parse_bytes(text).map(Size::Bytes) };
    let percent = percent.trim().parse::<f64>().ok().filter(|percent| *percent > 0.0 && *percent <= 1000.0);
    percent.map(Size::Percent).ok_or_else(|| "a share is above 0% and at most 1000%".to_owned())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "a share is above 0 and at most 1, like 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_shares() {
        assert_eq!(parse_size("1GiB"), Ok(Size::Bytes(1 << 30)));
        assert_eq!(parse_size("2.5 %"), Ok(Size::Percent(2.5)));
        for wrong in ["%", "0%", "-1%", "nan%", "inf%", "1G", ""] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "1.1", "nan", "x"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
