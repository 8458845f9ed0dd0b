//! What can encode, on which device: the sidecar's own program tries it and says so. A machine without a GPU is no failure, nor is one
//! without ffmpeg: films are then served as they are.

use super::online::{Outcome, Probe};
use crate::config::{Config, OriginKind};
use crate::transcode::own_program;
use crate::transcode::protocol::EncoderStatus;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// For all encoders on all devices, one after another.
const TIME_MAX: Duration = Duration::from_secs(120);
const SAID_BYTES_MAX: u64 = 1 << 20;
const SUBJECT: &str = "transcode";

/// A line for each encoder and device, where streams are made at all.
pub async fn found(config: &Config) -> Vec<Probe> {
    let Some(settings) = &config.transcode else { return Vec::new() };
    let wanted = |kind: &OriginKind| match kind {
        OriginKind::Library(_) => true,
        OriginKind::Http(origin) => origin.add_renditions.is_some(),
    };
    if !config.origins.iter().any(|origin| wanted(&origin.kind)) {
        return Vec::new();
    }
    let program = settings.program.clone().map_or_else(own_program, Ok);
    let mut arguments = vec!["--probe".to_owned(), "--jobs".to_owned(), settings.jobs.to_string()];
    arguments.extend(["--encoders".to_owned(), settings.encoder_names()]);
    arguments.extend(settings.device_jobs.iter().flat_map(|jobs| ["--device-jobs".to_owned(), jobs.to_string()]));
    let told = async {
        let said = said_by(&program?, &arguments).await?;
        serde_json::from_str::<Vec<EncoderStatus>>(&said).map_err(|_| "its answer is not as agreed".to_owned())
    };
    match told.await {
        Ok(encoders) => encoders.iter().map(line).collect(),
        // Films can still be watched as they are.
        Err(reason) => vec![Probe::new(SUBJECT, "reelgate-transcoder".to_owned(), Ok((Outcome::Warning, reason)))],
    }
}

/// What a program writes, in time; an error is the last line of what it complains of.
async fn said_by(program: &Path, arguments: &[String]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_remove("REELGATE_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("{} cannot be started: {error}; install it, or set transcode.program", program.display())
        })?;
    let (out, complaint) = (read(child.stdout.take()), read(child.stderr.take()));
    let read = tokio::time::timeout(TIME_MAX, async { tokio::join!(out, complaint) }).await;
    // It has closed what it writes to, or has had its time.
    let _ = child.kill();
    let _ = child.wait();
    let (out, complaint) = read.map_err(|_| format!("no answer within {} s", TIME_MAX.as_secs()))?;
    if out.is_empty() {
        return Err(complaint.lines().last().unwrap_or("it failed and said nothing").to_owned());
    }
    Ok(out)
}

/// All that comes out of a pipe.
async fn read(pipe: Option<impl Read + Send + 'static>) -> String {
    let work = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // What was said before it broke is as good.
        let _ = pipe.map(|pipe| pipe.take(SAID_BYTES_MAX).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    work.await.unwrap_or_default()
}

fn line(found: &EncoderStatus) -> Probe {
    let works = found.state == "works";
    let outcome = match (works, found.device.as_str()) {
        (true, _) => Outcome::Good,
        (false, "-") => Outcome::Absent,
        // A device that is there and cannot be used is worth a look.
        (false, _) if found.state == "not_compiled_in" => Outcome::Absent,
        (false, _) => Outcome::Warning,
    };
    let mut detail = found.state.replace('_', " ");
    if works {
        detail += &format!(", {} at once", found.slots);
    }
    if !found.detail.is_empty() {
        detail += &format!("; {}", found.detail);
    }
    Probe::new(&format!("{SUBJECT} {}", found.device), found.encoder.clone(), Ok((outcome, detail)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;

    #[test]
    fn a_device_that_is_there_and_fails_is_a_warning_and_one_that_is_not_is_none() {
        let status = |device: &str, state: &str, detail: &str| EncoderStatus {
            device: device.into(),
            encoder: "h264_nvenc".into(),
            codec: Codec::H264,
            state: state.into(),
            detail: detail.into(),
            slots: 4,
        };
        for (found, outcome, detail) in [
            (
                status("nvidia0", "works", "pictures stay on the device"),
                Outcome::Good,
                "works, 4 at once; pictures stay on the device",
            ),
            (status("nvidia0", "no_encoder", "it has none"), Outcome::Warning, "no encoder; it has none"),
            (
                status("-", "no_driver", "CUDA: Cannot load libcuda.so.1"),
                Outcome::Absent,
                "no driver; CUDA: Cannot load libcuda.so.1",
            ),
            (status("cpu", "not_compiled_in", ""), Outcome::Absent, "not compiled in"),
        ] {
            let probe = line(&found);
            assert_eq!((probe.outcome, probe.detail.as_str(), probe.target.as_str()), (outcome, detail, "h264_nvenc"));
        }
    }
}
