//! `reelgate optimise`

use super::admin_client::AdminClient;
use super::{ConfigFile, EXIT_INVALID, print};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Redrawn so often at most, per second.
const DRAWS_PER_SECOND: u8 = 10;
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Find out by trials how few bits a running edge's films need, and stream them so from then on.
///
/// Samples of a film are encoded at several qualities and compared with it; each rung gets the fewest bits that look as they should, in
/// H.264, HEVC and AV1 where ffmpeg has them. It takes minutes, and gives way to whoever watches. Ending this command ends nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  reelgate optimise -c conf/library.yaml \"Night of the Living Dead\"
  REELGATE_TOKEN=… reelgate optimise --admin http://10.0.0.5:9090 0c3f9a71b2de
Exit codes: 0 all done, 1 one could not be, or no answer, 2 bad usage or configuration.")]
#[command(group = clap::ArgGroup::new("edge").required(true).args(["path", "admin"]))]
pub struct Optimise {
    /// Configuration file (YAML): the edge at its `admin.address` is asked, with its token.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
    /// Admin address of a running edge; the token comes from REELGATE_TOKEN.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Ids of films, or their whole names.
    #[arg(value_name = "TITLE", required = true, num_args = 1..)]
    titles: Vec<String>,
}

impl Optimise {
    pub fn run(self) -> ExitCode {
        let client = match self.client() {
            Ok(client) => client,
            Err(code) => return code,
        };
        let mut failed = false;
        let mut begun = Vec::new();
        for title in &self.titles {
            match client.optimise(title) {
                Ok(answer) => begun.push(answer["title"].as_str().unwrap_or_default().to_owned()),
                Err(error) => {
                    eprintln!("error: {title}: {error}");
                    failed = true;
                }
            }
        }
        for title in &begun {
            match followed(&client, title) {
                Ok(done) => drop(print(&report(&done))),
                Err(error) => {
                    eprintln!("error: {title}: {error}");
                    failed = true;
                }
            }
        }
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
}

/// Until a title is done, with a bar.
#[expect(clippy::disallowed_methods, reason = "a command's only thread, with no worker on it")]
fn followed(client: &AdminClient, title: &str) -> Result<Value, String> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos} of {len} renditions, {elapsed}") {
        bar.set_style(style);
    }
    let ended = loop {
        let all = client.optimisations()?;
        let own = |all: &Value| all["titles"].as_array()?.iter().find(|told| told["title"] == title).cloned();
        let told = own(&all).ok_or("the edge has forgotten it: was it started anew?")?;
        bar.set_message(told["name"].as_str().unwrap_or_default().to_owned());
        bar.set_length(told["rungs"].as_u64().unwrap_or(0));
        bar.set_position(told["done"].as_u64().unwrap_or(0));
        match told["state"].as_str() {
            Some("done") => break Ok(told),
            Some("failed") => break Err(told["reason"].as_str().unwrap_or("it failed").to_owned()),
            _ => std::thread::sleep(ASK_INTERVAL),
        }
    };
    bar.finish_and_clear();
    ended
}

fn report(done: &Value) -> String {
    let percent = |name: &str| done[name].as_f64().unwrap_or(0.0);
    let name: String = done["name"].as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let (saved, h264) = (percent("saved_percent"), percent("saved_h264_percent"));
    format!("{name}: {saved:.0} % fewer bits for players that take every codec, {h264:.0} % in H.264\n")
}
