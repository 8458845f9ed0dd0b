//! The sidecar: makes segments with ffmpeg, and answers the edge on a unix socket.
//!
//! - `arguments`, `batch`: the command lines; several segments from one run.
//! - `picture`: what is done to each kind of picture.
//! - `tools`: the programs, and which build of them is there.
//! - `child`, `reading`: one run of a program, within limits.
//! - `probe`, `still`, `segment`: what a film is; a picture of it; segments, made and checked.
//! - `trial`: one segment made and compared with the film.
//! - `remux`: segments of a film's own packets.
//! - `schedule`, `viewers`: what is made first, what is made ahead; pure.
//! - `encoders`, `devices`, `failure`: what encodes, how much it takes, what its failures mean; pure.
//! - `careful`: what they are told for optimised titles; pure.
//! - `jobs`, `output`: what runs, who waits, what came out.
//! - `server`: requests → jobs.
//!
//! It ends when its standard input does, if it was told so: that is a pipe whose other end the edge holds, so that it never
//! outlives the edge, however that ends.

mod arguments;
mod batch;
mod careful;
mod child;
mod devices;
mod encoders;
mod failure;
mod jobs;
mod output;
mod picture;
mod probe;
mod reading;
mod remux;
mod schedule;
mod segment;
mod server;
mod still;
#[cfg(test)]
mod tests;
mod tools;
mod trial;
mod viewers;

use clap::Parser;
use jobs::{Jobs, Settings};
use server::Server;
use std::io::{IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tools::{Toolbox, Tools};
use tracing_subscriber::EnvFilter;

/// Films probed at once, where fewer segments are made at once than that.
const PROBES: usize = 2;
/// And waiting for that, or being probed.
const PROBES_WAITING_MAX: usize = 64;
/// For children to be killed and reaped.
const END_TIME_MAX: Duration = Duration::from_millis(500);

/// Makes adaptive streams of films on demand; `reelgate serve` starts it.
#[derive(Debug, Parser)]
#[command(name = "reelgate-transcoder", version)]
struct Arguments {
    /// The unix socket to listen on; its folder should keep others out
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Segments made at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Segments that may wait for that
    #[arg(long, value_name = "N", default_value_t = 32)]
    queue: u16,
    /// Bytes of segments made before they are asked for; 0: none are
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    ahead: u64,
    /// End when standard input ends
    #[arg(long)]
    until_stdin_ends: bool,
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let listener = bind(&arguments.socket)?;
        let settings =
            Settings { slots: arguments.jobs.into(), queue: arguments.queue.into(), ahead_bytes_max: arguments.ahead };
        let jobs = Arc::new(Jobs::new(Arc::clone(&tools), settings));
        let server = Server {
            jobs,
            tools,
            probes: Semaphore::new(PROBES.max(arguments.jobs.into())),
            probes_waiting_max: Semaphore::new(PROBES_WAITING_MAX),
            copies: Semaphore::new(1),
            trials: Semaphore::new(1),
        };
        tracing::info!(jobs = arguments.jobs, queue = arguments.queue, "transcoder: ready");
        tokio::select! {
            () = server::serve(listener, Arc::new(server)) => {}
            () = told_to_end(arguments.until_stdin_ends) => {}
        }
        Ok::<_, String>(())
    })?;
    // Tasks are dropped, and each kills its child.
    runtime.shutdown_timeout(END_TIME_MAX);
    Ok(())
}

/// Makes room for the socket only where nobody listens on it.
fn bind(path: &Path) -> Result<UnixListener, String> {
    if UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path).map_err(|error| format!("cannot remove the stale socket: {error}"))?;
    }
    UnixListener::bind(path).map_err(|error| format!("cannot listen on {}: {error}", path.display()))
}

/// SIGTERM, SIGINT, or the end of standard input.
async fn told_to_end(until_stdin_ends: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let stdin = async {
        if !until_stdin_ends {
            return std::future::pending().await;
        }
        let read = tokio::task::spawn_blocking(|| {
            let mut buffer = [0; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
        });
        let _ = read.await;
    };
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return stdin.await;
    };
    tokio::select! {
        () = stdin => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
