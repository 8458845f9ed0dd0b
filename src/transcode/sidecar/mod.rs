//! The sidecar: makes segments with ffmpeg, and answers the edge on a unix socket, or edges on other hosts over TCP.
//!
//! - `arguments`, `batch`: the command lines; several segments from one run.
//! - `picture`: what is done to each kind of picture.
//! - `tools`, `processor`: the programs, which build of them is there, and on what they run.
//! - `child`, `reading`, `memory`: one run of a program, within limits; what it is given that is no file.
//! - `probe`, `segment`: what a film is; segments, made and checked.
//! - `pictures`: posters, thumbnails and sheets of tiles, in a queue of their own.
//! - `trial`: one segment made and compared with the film.
//! - `remux`: segments of a film's own packets.
//! - `upstream`: segments of rungs that an HLS origin lacks, made from its own.
//! - `schedule`, `viewers`: what is made first, what is made ahead; pure.
//! - `encoders`, `devices`, `failure`: what encodes, how much it takes, what its failures mean; pure.
//! - `nodes`, `survey`: the devices there are, and which encoders work on them.
//! - `careful`: what they are told for optimised titles; pure.
//! - `jobs`, `output`: what runs, who waits, what came out.
//! - `listen`, `server`: connections; requests → jobs.
//! - `folders`: which films an edge on another host may name.
//!
//! It ends when its standard input does, if it was told so: that is a pipe whose other end the edge holds, so that it never
//! outlives the edge, however that ends. One that edges on other hosts use drains first, when it is told to end by SIGTERM.

mod arguments;
mod batch;
mod careful;
mod child;
mod devices;
mod encoders;
mod failure;
mod folders;
mod jobs;
mod listen;
mod memory;
mod nodes;
mod output;
mod picture;
mod pictures;
mod probe;
mod processor;
mod reading;
mod remux;
mod schedule;
mod segment;
mod server;
mod survey;
#[cfg(test)]
mod tests;
mod tools;
mod trial;
mod upstream;
mod viewers;

use super::tls::{self, Renewed};
use crate::config::TlsFiles;
use clap::Parser;
use encoders::Family;
use folders::{Folders, Mapping};
use jobs::{Jobs, Settings};
use listen::{Connections, Listening};
use pictures::Pictures;
use server::Server;
use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use survey::Survey;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tools::{Toolbox, Tools};
use tracing_subscriber::EnvFilter;
use upstream::RenditionRuns;

/// Films probed at once, where fewer segments are made at once than that.
const PROBES: usize = 2;
/// And waiting for that, or being probed.
const PROBES_WAITING_MAX: usize = 64;
/// For children to be killed and reaped.
const END_TIME_MAX: Duration = Duration::from_millis(500);

/// Makes adaptive streams of films on demand; `reelgate serve` starts it on its own host.
#[derive(Debug, Parser)]
#[command(
    name = "reelgate-transcoder",
    version,
    max_term_width = 100,
    after_help = "Examples:
  For an edge on another host, whose film folder is mounted here at the same path:
    reelgate-transcoder --listen 0.0.0.0:9443 --cert gpu.pem --key gpu.key --client-ca ca.pem \\
      --folder /films --jobs 4
  The same, where it is mounted elsewhere:
    reelgate-transcoder … --folder /films=/mnt/nas/films
  By hand on the edge's host, to see why it does not start:
    reelgate-transcoder --socket /tmp/transcoder.sock
The edge names it under transcode.servers. How to make the certificates: deploy/README.md.
Exit codes: 0 told to end, 1 cannot run, 2 bad usage. Logs go to standard error (REELGATE_LOG=debug)."
)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["socket", "listen", "probe"])))]
struct Arguments {
    /// The unix socket to listen on; its folder should keep others out
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The address and port to listen on for edges on other hosts, with TLS; needs the next four
    #[arg(long, value_name = "ADDRESS", requires_all = ["cert", "key", "client_ca", "folders"])]
    listen: Option<SocketAddr>,
    /// PEM file of this host's certificate, the chain after it, for the name that edges use
    #[arg(long, value_name = "FILE", requires = "listen")]
    cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "listen")]
    key: Option<PathBuf>,
    /// PEM file of the authority that edges' certificates are from; nobody else is let in
    #[arg(long, value_name = "FILE", requires = "listen")]
    client_ca: Option<PathBuf>,
    /// A folder that edges may name, and nothing outside it: the same path here as there, or EDGE=HERE; may be repeated
    #[arg(long = "folder", value_name = "FOLDER", requires = "listen", value_parser = Mapping::parse)]
    folders: Vec<Mapping>,
    /// Try every encoder on every device, print what was found as JSON, and end
    #[arg(long)]
    probe: bool,
    /// What may encode, the preferred first: nvenc, qsv, amf, vaapi, software
    #[arg(long, value_name = "FAMILY", value_delimiter = ',', value_parser = family)]
    encoders: Vec<Family>,
    /// Segments made at once on each device beside the processor; default: what such a device is known to take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    device_jobs: Option<u16>,
    /// Seconds between looks at what encodes; 0: never, and only the processor encodes
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    look_every: u64,
    /// Where the kernel shows its devices
    #[arg(long, value_name = "PATH", default_value = "/dev")]
    devices: PathBuf,
    /// Segments made at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Segments that may wait for that
    #[arg(long, value_name = "N", default_value_t = 32)]
    queue: u16,
    /// Bytes of segments made before they are asked for; 0: none are
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    ahead: u64,
    /// Seconds that what is being made may still take after SIGTERM, while nothing new is taken
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "listen")]
    drain: u64,
    /// End when standard input ends
    #[arg(long)]
    until_stdin_ends: bool,
}

fn family(name: &str) -> Result<Family, String> {
    Family::named(name).ok_or_else(|| format!("one of {}", Family::ALL.map(Family::name).join(", ")))
}

/// The program: exit code 0 when told to end, 1 where it cannot run, 2 for bad usage.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let filter = EnvFilter::try_from_env("REELGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let tools = Arc::new(Toolbox::new(Tools::find()?));
    let nodes = nodes::find(&arguments.devices, arguments.device_jobs.map(usize::from));
    let order = if arguments.encoders.is_empty() { Family::ALL.to_vec() } else { arguments.encoders.clone() };
    let survey = Arc::new(Survey::new(Arc::clone(&tools), nodes.clone(), order));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    if arguments.probe {
        let found = runtime.block_on(survey.look(true, true));
        let slots = |device: &str| {
            let of_node = |node: &nodes::Node| (node.name == device).then_some(node.slots);
            if device == "cpu" { arguments.jobs.into() } else { nodes.iter().find_map(of_node).unwrap_or(0) }
        };
        let found: Vec<_> = found.iter().map(|found| found.status(slots(&found.device))).collect();
        let text = serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?;
        return std::io::stdout().write_all(format!("{text}\n").as_bytes()).map_err(|error| error.to_string());
    }
    runtime.block_on(async {
        let (listening, folders) = listen(&arguments).await?;
        let settings =
            Settings { slots: arguments.jobs.into(), queue: arguments.queue.into(), ahead_bytes_max: arguments.ahead };
        let jobs = Arc::new(Jobs::new(Arc::clone(&tools), Arc::clone(&survey), nodes, settings));
        let server = Server {
            jobs: Arc::clone(&jobs),
            pictures: Pictures::new(Arc::clone(&tools), arguments.jobs.into()),
            renditions: RenditionRuns::new(Arc::clone(&tools), Arc::clone(&jobs)),
            tools,
            survey: Arc::clone(&survey),
            probes: Semaphore::new(PROBES.max(arguments.jobs.into())),
            probes_waiting_max: Semaphore::new(PROBES_WAITING_MAX),
            copies: Semaphore::new(1),
            trials: Semaphore::new(1),
            folders,
        };
        let every = Duration::from_secs(arguments.look_every);
        let (draining, connections) = (Arc::clone(&jobs), Connections::default());
        let looking = async {
            survey.keep_looking(jobs, every).await;
            std::future::pending::<()>().await;
        };
        let listen = arguments.listen.map(tracing::field::display);
        tracing::info!(listen, jobs = arguments.jobs, queue = arguments.queue, "transcoder: ready");
        let mut signals = Signals::new(arguments.until_stdin_ends)?;
        let how = tokio::select! {
            () = listening.serve(Arc::new(server), connections.clone()) => End::Now,
            () = looking => End::Now,
            how = signals.next() => how,
        };
        // Nothing listens any more: edges that come go elsewhere.
        if how == End::Soon && arguments.listen.is_some() {
            tracing::info!(at_most_s = arguments.drain, "transcoder: draining");
            draining.drain();
            tokio::select! {
                () = connections.drain() => tracing::info!("transcoder: drained"),
                () = tokio::time::sleep(Duration::from_secs(arguments.drain)) => {
                    tracing::warn!("transcoder: what is not made by now is cut off");
                }
                _ = signals.next() => {}
            }
        }
        Ok::<_, String>(())
    })?;
    // Tasks are dropped, and each kills its child.
    runtime.shutdown_timeout(END_TIME_MAX);
    Ok(())
}

/// Where edges come in, and what they may name.
async fn listen(arguments: &Arguments) -> Result<(Listening, Option<Arc<Folders>>), String> {
    let Arguments { socket, listen, cert: Some(cert), key: Some(key), client_ca: Some(ca), folders, .. } = arguments
    else {
        let socket = arguments.socket.as_ref().ok_or("--listen needs --cert, --key and --client-ca")?;
        return Ok((Listening::unix(socket)?, None));
    };
    let listen = listen.filter(|_| socket.is_none()).ok_or("--cert, --key and --client-ca are for --listen")?;
    for folder in folders.iter().map(Mapping::local).filter(|folder| !folder.is_dir()) {
        tracing::warn!(folder = %folder.display(), "no such folder now: films in it are refused until it is there");
    }
    let files = TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
    let listening = Listening::tls(listen, Renewed::new(files, tls::server)).await?;
    Ok((listening, Some(Arc::new(Folders(folders.clone())))))
}

/// How it is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// SIGTERM.
    Soon,
    /// SIGINT, or the end of standard input.
    Now,
}

/// What tells it to end.
struct Signals {
    term: Signal,
    int: Signal,
    /// Done when standard input has ended, or never.
    stdin: Option<tokio::task::JoinHandle<()>>,
}

impl Signals {
    fn new(until_stdin_ends: bool) -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot hear signals: {error}"));
        let read = || {
            let mut buffer = [0; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
        };
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            stdin: until_stdin_ends.then(|| tokio::task::spawn_blocking(read)),
        })
    }

    async fn next(&mut self) -> End {
        let stdin = async {
            match &mut self.stdin {
                Some(stdin) => drop(stdin.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stdin => End::Now,
            _ = self.int.recv() => End::Now,
            _ = self.term.recv() => End::Soon,
        }
    }
}
