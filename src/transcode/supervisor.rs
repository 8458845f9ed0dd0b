//! Keeps one sidecar running beside the edge: started again when it ends, with growing pauses; killed when it does not answer;
//! ended with the edge, whose end it sees on its standard input.
//!
//! Invariant: at most one at a time; nothing waits for it, and nothing fails because it is not there.

use super::Client;
use crate::config::Transcode;
use crate::observe::Metrics;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const PROGRAM: &str = "reelgate-transcoder";
/// Between looks at the process and at its health.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// So many looks in a row without an answer, and it is killed.
const SICK_LOOKS_MAX: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A sidecar that ran this long is started again without a longer pause.
const STEADY: Duration = Duration::from_secs(60);
/// For it to end by itself when the edge does.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// What is needed to start a sidecar.
#[derive(Debug)]
pub struct Supervisor {
    program: PathBuf,
    /// Its folder keeps others out (mode 0700).
    socket: PathBuf,
    settings: Transcode,
    client: Arc<Client>,
    metrics: Arc<Metrics>,
}

/// A started sidecar: killed and reaped when dropped.
#[derive(Debug)]
struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Supervisor {
    /// Starts a sidecar that listens where `client` says, and keeps it running until `ends` says so. Call it in a runtime.
    pub(super) fn start(
        program: PathBuf,
        socket: PathBuf,
        settings: &Transcode,
        client: Arc<Client>,
        metrics: Arc<Metrics>,
        ends: watch::Receiver<bool>,
    ) {
        let supervisor = Self { program, socket, settings: settings.clone(), client, metrics };
        tokio::spawn(supervisor.run(ends));
    }

    /// The program to run, or why there is none.
    pub(super) fn find(settings: &Transcode) -> Result<PathBuf, String> {
        settings.program.clone().map_or_else(own_program, Ok)
    }

    async fn run(self, mut ends: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let started = Instant::now();
            match self.spawn() {
                Ok(sidecar) => {
                    self.metrics.transcoder_starts.inc();
                    if !self.watch(sidecar, &mut ends).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(program = %self.program.display(), %error, "transcoder: cannot be started")
                }
            }
            if started.elapsed() > STEADY {
                pause = PAUSE_MIN;
            }
            tracing::warn!(pause_s = pause.as_secs_f64(), "transcoder: starting it again after a pause");
            tokio::select! {
                () = sleep(pause) => {}
                () = told(&mut ends) => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn spawn(&self) -> std::io::Result<Sidecar> {
        let child = Command::new(&self.program)
            .arg("--socket")
            .arg(&self.socket)
            .args(["--jobs", &self.settings.jobs.to_string(), "--queue", &self.settings.queue.to_string()])
            .args(["--ahead", &self.settings.ahead_bytes_max.to_string()])
            .args(["--encoders", &self.settings.encoder_names()])
            .args(self.settings.device_jobs.iter().flat_map(|jobs| ["--device-jobs".to_owned(), jobs.to_string()]))
            .arg("--until-stdin-ends")
            // A terminal's interrupt is the edge's to take.
            .process_group(0)
            .env_remove("REELGATE_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Sidecar(child))
    }

    /// Until it ended or was killed (true), or the edge ends (false).
    async fn watch(&self, mut sidecar: Sidecar, ends: &mut watch::Receiver<bool>) -> bool {
        let mut sick_looks = 0;
        loop {
            tokio::select! {
                () = sleep(LOOK_INTERVAL) => {}
                () = told(ends) => {
                    end(sidecar).await;
                    return false;
                }
            }
            if let Ok(Some(status)) = sidecar.0.try_wait() {
                tracing::error!(%status, "transcoder: ended");
                break;
            }
            let healthy = self.client.look_at_local().await;
            sick_looks = if healthy { 0 } else { sick_looks + 1 };
            if sick_looks >= SICK_LOOKS_MAX {
                tracing::error!("transcoder: it does not answer, and is killed");
                break;
            }
        }
        self.client.local_ended();
        true
    }
}

/// The edge ends.
async fn told(ends: &mut watch::Receiver<bool>) {
    // An error: who would tell is gone, which is the same.
    let _ = ends.wait_for(|ends| *ends).await;
}

/// Closes its standard input, and kills it only if that does not help.
async fn end(mut sidecar: Sidecar) {
    drop(sidecar.0.stdin.take());
    let deadline = Instant::now() + END_TIME_MAX;
    while Instant::now() < deadline && matches!(sidecar.0.try_wait(), Ok(None)) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// The sidecar's program, where the configuration names none.
pub fn own_program() -> Result<PathBuf, String> {
    beside_us().or_else(|| find_program(PROGRAM)).ok_or_else(|| {
        format!("{PROGRAM} is neither beside this program nor in PATH: install it, or set transcode.program")
    })
}

fn beside_us() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name(PROGRAM);
    beside.is_file().then_some(beside)
}

/// A program of `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok() && program.is_file())
}
