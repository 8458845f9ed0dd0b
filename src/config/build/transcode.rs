//! `transcode`: where streams are made, and by whom it is believed.

use super::super::built::{Background, ServerAddress, TlsFiles, Transcode, TranscodeServers};
use super::super::formats;
use super::super::raw::RawFamily;
use super::super::units::ByteSize;
use super::Builder;
use crate::media::codec::Family;
use std::path::PathBuf;

impl Builder<'_> {
    pub(super) fn transcode(&mut self) -> Option<Transcode> {
        let raw = &self.raw.transcode;
        let mut addresses: Vec<ServerAddress> = Vec::new();
        for (index, url) in raw.servers.iter().enumerate() {
            let Ok(address) = formats::https_server(url) else { continue };
            if addresses.contains(&address) {
                let advice = Some("each is asked for as many segments as it has slots for (--jobs)");
                self.error(&format!("transcode.servers[{index}]"), "this server is given twice", advice);
            }
            addresses.push(address);
        }
        if self.places.has("transcode.servers") && self.places.is_absent("transcode.tls") && !addresses.is_empty() {
            let advice = "add tls: {ca: FILE, cert: FILE, key: FILE}; deploy/README.md says how to make them";
            self.error("transcode.servers", "`servers` needs `tls`", Some(advice));
        }
        if self.places.has("transcode.tls") && self.places.is_absent("transcode.servers") {
            let advice = "name the servers, like servers: [https://gpu.lan:9443], or remove it";
            self.error("transcode.tls", "`tls` is for `servers`", Some(advice));
        }
        if raw.local == Some(false) && self.places.is_absent("transcode.servers") {
            let advice = "name servers, or set transcode.enabled to false";
            self.error("transcode.local", "nobody is left to make streams", Some(advice));
        }
        if raw.source_memory < ByteSize::mib(32) {
            let advice = "the least is 32MiB; a segment may take a quarter of it";
            self.error("transcode.source_memory", "too little to make anything of", Some(advice));
        }
        let remote = raw.tls.as_ref().filter(|_| !addresses.is_empty()).map(|tls| TranscodeServers {
            addresses,
            tls: TlsFiles { ca: PathBuf::from(&tls.ca), cert: PathBuf::from(&tls.cert), key: PathBuf::from(&tls.key) },
        });
        raw.enabled.then(|| Transcode {
            jobs: raw.jobs.unwrap_or(1),
            queue: raw.queue,
            ahead_bytes_max: raw.ahead.0,
            source_bytes_max: raw.source_memory.0,
            background: raw.background.enabled.then(|| Background {
                watched_min: raw.background.after.0,
                titles_max: raw.background.titles.into(),
                bytes_max: raw.background.size.map_or(0, |size| size.0),
                share: raw.background.share,
                optimise: raw.background.optimise,
            }),
            encoders: raw.encoders.iter().map(|raw| family(*raw)).collect(),
            device_jobs: raw.device_jobs,
            program: raw.program.as_ref().map(PathBuf::from),
            remote,
            local: raw.local,
        })
    }
}

fn family(raw: RawFamily) -> Family {
    match raw {
        RawFamily::Nvenc => Family::Nvenc,
        RawFamily::Qsv => Family::Qsv,
        RawFamily::Amf => Family::Amf,
        RawFamily::Vaapi => Family::Vaapi,
        RawFamily::Software => Family::Software,
    }
}
