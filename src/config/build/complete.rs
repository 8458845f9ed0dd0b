//! Fills in what depends on the machine or on other keys, so that `config show` prints what is in effect: absolute paths,
//! the number of workers, sites' names, bursts.

use super::super::raw::{RawCertificate, RawConfig, RawKind, RawServer, RawSite};
use crate::config::units::ByteSize;
use std::path::{Path, PathBuf};

/// Of the store for what is made ahead of popular titles: 1/10.
const BACKGROUND_PART: u64 = 10;

/// `folder` is where relative paths start: the configuration file's own.
pub fn complete(raw: &mut RawConfig, folder: &Path) {
    // Collecting the components drops `./`.
    let from_folder = |path: &str| folder.join(path).components().collect::<PathBuf>().to_string_lossy().into_owned();
    let absolute = |path: &mut String| {
        if !path.is_empty() {
            *path = from_folder(path);
        }
    };
    let socket = |address: &mut String| {
        if let Some(path) = address.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            *address = format!("unix:{}", from_folder(path));
        }
    };
    for listen in &mut raw.listen {
        socket(&mut listen.address);
        for certificate in &mut listen.tls.0 {
            if let RawCertificate::Files(files) = certificate {
                absolute(&mut files.cert);
                absolute(&mut files.key);
            }
        }
    }
    for origin in raw.origins.values_mut() {
        for server in &mut origin.servers {
            match server {
                RawServer::Url(url) => socket(url),
                RawServer::Weighted(server) => socket(&mut server.url),
            }
        }
        origin.tls.ca.iter_mut().for_each(absolute);
        origin.folders.iter_mut().for_each(absolute);
        origin.index.iter_mut().for_each(absolute);
    }
    raw.cache.disk.0.iter_mut().for_each(|disk| absolute(&mut disk.path));
    // Who lets the cache survive a restart wants as much for what is known of films.
    if let Some(disk) = raw.cache.disk.0.first().filter(|disk| !disk.path.is_empty()) {
        let beside = Path::new(&disk.path).join("library").to_string_lossy().into_owned();
        for origin in raw.origins.values_mut().filter(|origin| origin.kind == RawKind::Library) {
            origin.index.get_or_insert_with(|| beside.clone());
        }
    }
    raw.log.access.file.iter_mut().for_each(absolute);
    raw.transcode.program.iter_mut().for_each(absolute);
    if let Some(tls) = &mut raw.transcode.tls {
        [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().for_each(absolute);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    raw.workers.get_or_insert(cores);
    raw.transcode.jobs.get_or_insert(u16::try_from(cores / 2).unwrap_or(u16::MAX).clamp(1, 256));
    let disks = raw.cache.disk.0.iter().map(|disk| disk.size.0).fold(0, u64::saturating_add);
    let store = if disks > 0 { disks } else { raw.cache.memory.0 };
    raw.transcode.background.size.get_or_insert(ByteSize(store / BACKGROUND_PART));
    for site in &mut raw.sites {
        let name = derived_name(site);
        site.name.get_or_insert(name);
        if let Some(rate) = &mut site.rate {
            // In range by the schema, so the conversion is exact.
            rate.burst.get_or_insert(rate.requests_per_second.ceil().max(1.0) as u32);
        }
    }
}

fn derived_name(site: &RawSite) -> String {
    let name = [site.hosts.first(), site.paths.first()].into_iter().flatten().map(String::as_str).collect::<String>();
    if name.is_empty() { "default".to_owned() } else { name }
}
