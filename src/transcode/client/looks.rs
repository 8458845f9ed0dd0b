//! Whether sidecars are there, and what they are at: looked at all the time, told in metrics and lists.
//!
//! Invariants: a look takes a bounded time; one that is away is looked at with growing pauses, never less often than that; what is
//! counted here of one sidecar is never counted twice, however often it starts anew.

use super::super::protocol::{BUILD, EVENTS, EncoderStatus, JobStatus, PICTURE_EVENTS, STATUS, Status};
use super::connect::Sent;
use super::server::{HEALTH_TIME_MAX, Server};
use super::{Client, Error, away};
use crate::config::{ServerAddress, TranscodeServers};
use futures_util::future::join_all;
use http::{Method, StatusCode, header};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Between looks at one that is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// And at one that is not: from the first to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Of one sidecar, in metrics.
const ENCODERS_MAX: usize = 256;
/// Some hundreds of jobs.
const STATUS_BYTES_MAX: usize = 1 << 20;
/// So many looks in a row in vain, and one that was there is away.
const SICK_LOOKS_MAX: u32 = 3;

/// What was counted of a sidecar by the last look.
#[derive(Debug, Default)]
pub struct Counted {
    events: BTreeMap<&'static str, u64>,
    waiting: usize,
    running: usize,
    ahead_bytes: u64,
    up: bool,
    /// Device, encoder, and whether it works.
    encoders: Vec<(String, String, bool)>,
}

/// What all sidecars are at.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// One of them answers.
    pub available: bool,
    /// Since each of them started, of each of [`EVENTS`].
    pub counts: BTreeMap<String, u64>,
    pub ahead_bytes: u64,
    pub jobs: Vec<ServerJob>,
    pub encoders: Vec<ServerEncoder>,
    /// The preferred first.
    pub servers: Vec<ServerStatus>,
}

/// A job, and whose it is.
#[derive(Debug, Clone, Serialize)]
pub struct ServerJob {
    pub server: Arc<str>,
    #[serde(flatten)]
    pub job: JobStatus,
}

/// An encoder on a device, and whose it is.
#[derive(Debug, Clone, Serialize)]
pub struct ServerEncoder {
    pub server: Arc<str>,
    #[serde(flatten)]
    pub encoder: EncoderStatus,
}

/// One sidecar.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStatus {
    /// `local`, or host and port.
    pub server: Arc<str>,
    pub up: bool,
    /// What makes films there, as far as it has said.
    pub build: Option<Arc<str>>,
}

impl Client {
    /// Who answers, as the last look found; nobody is asked.
    pub fn standing(&self) -> Vec<ServerStatus> {
        let now = Instant::now();
        let servers = self.servers.iter().enumerate().map(|(index, server)| {
            let build = self.fleet.lock().standing(index, now).1.filter(|build| !build.is_empty());
            ServerStatus { server: Arc::clone(&server.name), up: server.counted.lock().up, build }
        });
        servers.collect()
    }

    /// What each of them is at.
    pub async fn report(&self) -> Report {
        let now = Instant::now();
        let standing = |index| self.fleet.lock().standing(index, now);
        let asked = self.servers.iter().enumerate().map(async |(index, server)| {
            // One that is away would only be waited for.
            if self.is_alone() || standing(index).0 { server.status().await.ok() } else { None }
        });
        let statuses = join_all(asked).await;
        let mut report = Report { available: statuses.iter().any(Option::is_some), ..Report::default() };
        for (index, (server, status)) in self.servers.iter().zip(statuses).enumerate() {
            let build = standing(index).1;
            report.servers.push(ServerStatus { server: Arc::clone(&server.name), up: status.is_some(), build });
            let Some(status) = status else { continue };
            status.counts.into_iter().for_each(|(event, count)| *report.counts.entry(event).or_default() += count);
            report.ahead_bytes = report.ahead_bytes.saturating_add(status.ahead_bytes);
            let of_server = |encoder| ServerEncoder { server: Arc::clone(&server.name), encoder };
            report.encoders.extend(status.encoders.into_iter().map(of_server));
            report.jobs.extend(status.jobs.into_iter().map(|job| ServerJob { server: Arc::clone(&server.name), job }));
        }
        report
    }

    /// Looks at the one on this host; whether it answers.
    pub(in super::super) async fn look_at_local(&self) -> bool {
        let Some((index, server)) = self.local() else { return false };
        // Alone it is asked whatever it is made of.
        let build = if self.is_alone() { Ok(String::new()) } else { server.build().await };
        let status = server.status().await;
        let answers = status.is_ok();
        match (status, build) {
            (Ok(status), Ok(build)) => self.found(index, &status, &build),
            _ => self.lost(index),
        }
        answers
    }

    /// The one on this host has ended.
    pub(in super::super) fn local_ended(&self) {
        if let Some((index, server)) = self.local() {
            *server.counted.lock() = Counted::default();
            self.lost(index);
        }
    }

    fn local(&self) -> Option<(usize, &Server)> {
        self.servers.iter().enumerate().find(|(_, server)| server.socket.is_some())
    }

    /// Looks at those on other hosts until `ends` says so. Call it in a runtime.
    pub(in super::super) fn keep_looking(self: &Arc<Self>, ends: &watch::Receiver<bool>) {
        for (index, _) in self.servers.iter().enumerate().filter(|(_, server)| server.socket.is_none()) {
            let (client, mut ends) = (Arc::clone(self), ends.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = client.keep_looking_at(index) => {}
                    // An error: who would tell is gone, which is the same.
                    _ = ends.wait_for(|ends| *ends) => {}
                }
            });
        }
    }

    async fn keep_looking_at(&self, index: usize) {
        let server = &self.servers[index];
        let (mut pause, mut sick_looks) = (PAUSE_MIN, SICK_LOOKS_MAX);
        let mut is_up = None;
        loop {
            let looked = async { Ok::<_, Error>((server.build().await?, server.status().await?)) };
            match looked.await {
                Ok((build, status)) => {
                    if is_up != Some(true) {
                        tracing::info!(server = &*server.name, build, "transcoder: it answers");
                    }
                    (is_up, sick_looks, pause) = (Some(true), 0, PAUSE_MIN);
                    self.found(index, &status, &build);
                }
                Err(error) => {
                    sick_looks = sick_looks.saturating_add(1);
                    server.way.close_idle();
                    if sick_looks >= SICK_LOOKS_MAX {
                        if is_up != Some(false) {
                            tracing::error!(server = &*server.name, %error, "transcoder: it is away");
                        }
                        is_up = Some(false);
                        self.lost(index);
                    }
                }
            }
            if is_up == Some(true) && sick_looks == 0 {
                tokio::select! {
                    () = sleep(LOOK_INTERVAL) => {}
                    () = server.look_now.notified() => {}
                }
            } else {
                // Not all edges at once.
                sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    fn found(&self, index: usize, status: &Status, build: &str) {
        self.fleet.lock().looked(index, Some(build), Instant::now());
        let jobs = |state| status.jobs.iter().filter(|job| job.state == state).count();
        let mut counted = self.servers[index].counted.lock();
        for event in EVENTS.into_iter().chain(PICTURE_EVENTS) {
            let (count, before) =
                (status.counts.get(event).copied().unwrap_or(0), counted.events.entry(event).or_default());
            // Less than before: it was started anew.
            let more = if count >= *before { count - *before } else { count };
            if let Some(metrics) = &self.metrics {
                metrics.transcoder_events.with_label_values(&[event]).inc_by(more);
            }
            *before = count;
        }
        counted.encoders = works(status);
        (counted.waiting, counted.running, counted.up) = (jobs("waiting"), jobs("running"), true);
        counted.ahead_bytes = status.ahead_bytes;
        drop(counted);
        self.tell(index);
    }

    fn lost(&self, index: usize) {
        self.fleet.lock().looked(index, None, Instant::now());
        let mut counted = self.servers[index].counted.lock();
        let events = std::mem::take(&mut counted.events);
        *counted = Counted { events, ..Counted::default() };
        drop(counted);
        self.tell(index);
    }

    fn tell(&self, index: usize) {
        let Some(metrics) = &self.metrics else { return };
        let (mut waiting, mut running, mut ahead_bytes, mut up) = (0, 0, 0, 0);
        for (at, server) in self.servers.iter().enumerate() {
            let counted = server.counted.lock();
            (waiting, running) = (waiting + counted.waiting, running + counted.running);
            ahead_bytes += counted.ahead_bytes;
            up += usize::from(counted.up);
            if at == index {
                let up = &metrics.transcoder_encoder_up;
                // Devices come and go, with a sidecar all of them.
                for (device, encoder) in std::mem::take(&mut *server.encoders_told.lock()) {
                    let _ = up.remove_label_values(&[&*server.name, &*device, &*encoder]);
                }
                for (device, encoder, works) in &counted.encoders {
                    up.with_label_values(&[&*server.name, device, encoder]).set((*works).into());
                    server.encoders_told.lock().push((device.clone(), encoder.clone()));
                }
                metrics.transcoder_server_up.with_label_values(&[&server.name]).set(counted.up.into());
            }
        }
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.transcoder_jobs.with_label_values(&["waiting"]).set(gauge(waiting));
        metrics.transcoder_jobs.with_label_values(&["running"]).set(gauge(running));
        metrics.transcoder_ahead_bytes.set(i64::try_from(ahead_bytes).unwrap_or(i64::MAX));
        metrics.transcoder_up.set((up > 0).into());
    }
}

impl Server {
    async fn status(&self) -> Result<Status, Error> {
        let asked = tokio::time::timeout(HEALTH_TIME_MAX, async {
            let answer = self.send(Method::GET, STATUS, Sent::default()).await.map_err(Error::Away)?;
            serde_json::from_slice(&answer.whole(STATUS_BYTES_MAX).await?).map_err(away)
        });
        asked.await.map_err(|_| Error::Away("no answer in time".into()))?
    }
}

/// How a sidecar on another host introduces itself.
#[derive(Debug)]
pub struct Introduction {
    /// The subject of its certificate.
    pub subject: String,
    /// The program and its version.
    pub program: String,
    /// What makes films there.
    pub build: String,
}

/// Asks one of the servers who it is; the errors are for people.
pub async fn introduction(servers: &TranscodeServers, address: &ServerAddress) -> Result<Introduction, String> {
    let only = TranscodeServers { addresses: vec![address.clone()], tls: servers.tls.clone() };
    let client = Client::of(None, Some(&only), None);
    let server = client.servers.first().ok_or("it has no TCP address")?;
    let asked = server.send(Method::GET, BUILD, Sent::default());
    let answer = tokio::time::timeout(super::HEAD_TIME_MAX, asked).await.map_err(|_| "no answer in time")??;
    let status = answer.response.status();
    let subject = answer.held.connection.certificate.as_deref().and_then(subject).unwrap_or_default();
    let program = answer.response.headers().get(header::SERVER).and_then(|name| name.to_str().ok());
    let program = program.unwrap_or("unknown").to_owned();
    let said = answer.reason().await.map_err(|error| error.to_string())?;
    if status != StatusCode::OK {
        return Err(said);
    }
    Ok(Introduction { subject, program, build: said })
}

fn works(status: &Status) -> Vec<(String, String, bool)> {
    let there = status.encoders.iter().filter(|found| found.device != "-").take(ENCODERS_MAX);
    there.map(|found| (found.device.clone(), found.encoder.clone(), found.state == "works")).collect()
}

fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string().chars().filter(|c| !c.is_control()).take(200).collect())
}
