//! Puts the rooms together and starts them: everything that can fail does so here, before the first request.

use super::idle;
use super::optimising::PopularOptimised;
use super::popular::PopularTitles;
use super::reload::Reloader;
use super::source::AppSource;
use crate::admin;
use crate::cache::disk::{Disks, LogSettings};
use crate::cache::{BanLog, Bans, MemoryStore, Slices, StoreSettings, collapse};
use crate::config::{Background, Config, Loaded, OriginKind};
use crate::edge::{self, AddedRenditions, Asker, Edge, Generation, Lane, Refreshes, SlicedObjects};
use crate::http::loop_detection::LoopId;
use crate::observe::{AccessLog, Lifecycle, Metrics};
use crate::origin::{Embedded, Origins};
use crate::transcode;
use crate::transport::{Listener, Shared, Workers};
use arc_swap::{ArcSwap, ArcSwapOption};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::http_proxy;
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Idle connections to origins kept in all.
const ORIGIN_CONNECTIONS_KEPT_MAX: usize = 512;

/// What waits for a disk lies in memory: at most this part of it, 1/4.
const DISK_QUEUE_SHARE: u64 = 4;
const DISK_QUEUE_BYTES_MAX: u64 = 256 << 20;
/// The indexes of all disks are paid from memory too: at most this part of it, 1/4.
const DISK_INDEX_SHARE: u64 = 4;

/// Everything that runs.
pub(super) struct Running {
    pub metrics: Arc<Metrics>,
    pub lifecycle: Arc<Lifecycle>,
    pub access_log: Arc<ArcSwapOption<AccessLog>>,
    pub reloader: Arc<Reloader>,
    pub store: &'static MemoryStore,
    stop_listening: watch::Sender<bool>,
    stop_all: watch::Sender<bool>,
    /// Where libraries have their sockets; removed at the end.
    _runtime_folder: TempDir,
}

impl Running {
    /// No new connections; idle ones close. (Not Pingora's `http_cleanup`: it drops requests whose head is half read.)
    pub fn stop_listening(&self) {
        // Nobody listening for it any more is as good.
        let _ = self.stop_listening.send(true);
    }

    /// Health checks, libraries and the admin listener end.
    pub fn stop_the_rest(&self) {
        let _ = self.stop_all.send(true);
    }
}

/// Builds and starts all rooms of a configuration.
pub(super) async fn start(loaded: Loaded) -> Result<Running, Box<dyn Error>> {
    super::install_crypto_provider();
    let metrics = Arc::new(Metrics::new());
    let lifecycle = Arc::new(Lifecycle::default());
    let runtime_folder = runtime_folder()?;
    let config = Arc::new(loaded.config.clone());
    let (stop_listening, listening_ends) = watch::channel(false);
    let (stop_all, all_ends) = watch::channel(false);

    let ban_log = ban_log(&config, &metrics).await?;
    let store = store(&config, ban_log.as_ref(), &metrics).await?;
    let access_log =
        AccessLog::start(&config.log.access, metrics.clone()).map_err(|error| format!("log.access: {error}"))?;
    let access_log = Arc::new(ArcSwapOption::from(access_log.map(Arc::new)));
    let transcoder = transcoder(&config, runtime_folder.path(), &metrics, &all_ends);
    let embedded = Embedded { folder: runtime_folder.path().to_owned(), transcoder: transcoder.clone() };
    let origins = Arc::new(Origins::build(&config.origins, None, &metrics, &embedded)?);
    origins.start(None, &all_ends);
    let generation = Arc::new(ArcSwap::from_pointee(Generation::new(config.clone(), origins, &metrics)));
    let shared = Shared::new(
        config.limits.clone(),
        config.trusted_proxies.clone(),
        host_names(&config),
        metrics.clone(),
        lifecycle.clone(),
        Workers::start(config.worker_threads)?,
        Some(Arc::new(Lane {
            generation: generation.clone(),
            store,
            metrics: metrics.clone(),
            access_log: access_log.clone(),
        })),
    );
    let proxy = Arc::new(http_proxy(
        &Arc::new(ServerConf { upstream_keepalive_pool_size: ORIGIN_CONNECTIONS_KEPT_MAX, ..ServerConf::default() }),
        Edge {
            refreshes: Refreshes::default(),
            slices: SlicedObjects::new(Slices::new(store, metrics.clone())),
            renditions: AddedRenditions::new(
                transcoder.clone(),
                config.transcode.as_ref().map_or(0, |transcode| transcode.source_bytes_max),
            ),
            on_the_way: edge::on_the_way(),
            generation: generation.clone(),
            store,
            lock: collapse::lock(config.cache.collapse_timeout, store),
            metrics: metrics.clone(),
            access_log: access_log.clone(),
            loop_id: LoopId::new(&format!("{:016x}", fastrand::u64(..))).expect("hex digits are a token"),
        },
    ));

    // What is made so waits in the sidecar's memory until the edge has asked for it.
    let background = config.transcode.as_ref().filter(|transcode| transcode.ahead_bytes_max > 0);
    let background = background.and_then(|transcode| transcode.background);
    if let (Some(_), Some(settings)) = (&transcoder, background) {
        let works = works(settings, &generation, store, Asker::new(proxy.clone()), &metrics);
        tokio::spawn(idle::keep_working(works, settings.share, all_ends.clone()));
    }

    // Every socket is bound before the first is served, so that a mistake in one leaves nothing half open.
    let listeners = Listener::bind_all(&config.listen, &shared).map_err(|errors| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        all.join("; ")
    })?;
    let admin_listener = match &config.admin {
        Some(settings) => Some(TcpListener::bind(settings.address).await.map_err(|error| {
            format!("admin.address {}: {error}; stop what uses it or choose another port", settings.address)
        })?),
        None => None,
    };
    let reloader = Arc::new(Reloader::new(
        loaded,
        generation.clone(),
        shared,
        metrics.clone(),
        access_log.clone(),
        embedded,
        all_ends.clone(),
    ));
    for listener in listeners {
        // Port 0 is one the system chose.
        let address = listener.local_address().map_or(listener.settings().address.to_string(), |at| at.to_string());
        tracing::info!(address, tls = listener.certificates().is_some(), "listening");
        tokio::spawn(listener.run(proxy.clone(), listening_ends.clone()));
    }
    if let (Some(listener), Some(settings)) = (admin_listener, &config.admin) {
        tracing::info!(address = %settings.address, "admin");
        let (metrics, lifecycle, reloader) = (metrics.clone(), lifecycle.clone(), reloader.clone());
        let source = AppSource::new(generation, metrics, lifecycle, store, ban_log, reloader, transcoder);
        tokio::spawn(admin::serve(listener, Arc::new(source), settings.token.clone(), all_ends));
    }
    metrics.config_reload_success.set(1);
    Ok(Running {
        metrics,
        lifecycle,
        access_log,
        reloader,
        store,
        stop_listening,
        stop_all,
        _runtime_folder: runtime_folder,
    })
}

/// What makes streams, where a library or an origin's ladder wants it. Without it films are served as they are: no reason not to start.
pub(super) fn transcoder(
    config: &Config,
    folder: &Path,
    metrics: &Arc<Metrics>,
    ends: &watch::Receiver<bool>,
) -> Option<Arc<transcode::Client>> {
    let settings = config.transcode.as_ref()?;
    config.origins.iter().find(|origin| wants_transcoder(&origin.kind))?;
    let started = transcode::start(settings, folder, metrics, ends);
    started.inspect_err(|error| tracing::warn!("films are served as they are, without streams: {error}")).ok()
}

fn wants_transcoder(origin: &OriginKind) -> bool {
    match origin {
        OriginKind::Library(_) => true,
        OriginKind::Http(settings) => settings.add_renditions.is_some(),
    }
}

/// What is done for popular titles while nobody waits for anything.
fn works(
    settings: Background,
    generation: &Arc<ArcSwap<Generation>>,
    store: &'static MemoryStore,
    asker: Asker,
    metrics: &Arc<Metrics>,
) -> Vec<Box<dyn idle::Work>> {
    let mut works: Vec<Box<dyn idle::Work>> = Vec::new();
    if settings.optimise {
        works.push(Box::new(PopularOptimised::new(settings, generation.clone())));
    }
    works.push(Box::new(PopularTitles {
        settings,
        generation: generation.clone(),
        store,
        asker,
        metrics: metrics.clone(),
        under_way: None,
        done: HashMap::new(),
    }));
    works
}

/// The store, above its disks. It lives as long as the process: Pingora wants it so.
async fn store(
    config: &Arc<Config>,
    ban_log: Option<&BanLog>,
    metrics: &Arc<Metrics>,
) -> Result<&'static MemoryStore, Box<dyn Error>> {
    let bans = ban_log.map_or_else(|| Arc::new(Bans::new(metrics.clone())), |log| log.bans().clone());
    let settings = StoreSettings {
        bytes_max: config.cache.memory_bytes,
        object_bytes_max: config.cache.object_bytes_max,
        hold_timeout: config.cache.hold_timeout,
    };
    let mut store = MemoryStore::with_bans(settings, bans, metrics.clone());
    if let Some(disks) = disks(config, metrics).await? {
        store = store.above(disks);
    }
    let store = store.leak();
    tokio::spawn(store.keep_sweeping());
    tokio::spawn(store.keep_indexes_paid());
    tokio::spawn(store.keep_opening_disks());
    Ok(store)
}

/// Purges survive where objects do: on the first disk.
async fn ban_log(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<BanLog>, Box<dyn Error>> {
    let Some(disk) = config.cache.disks.first() else { return Ok(None) };
    let (folder, metrics) = (disk.path.clone(), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || BanLog::open(&folder, metrics)).await?;
    Ok(Some(opened.map_err(|error| format!("cannot start the thread of the log of purges: {error}"))?))
}

/// The disks below the RAM store. One that cannot be used is left out, and `/readyz` says so.
async fn disks(config: &Arc<Config>, metrics: &Arc<Metrics>) -> Result<Option<Arc<Disks>>, Box<dyn Error>> {
    if config.cache.disks.is_empty() {
        return Ok(None);
    }
    let queue_bytes_max = (config.cache.memory_bytes / DISK_QUEUE_SHARE).clamp(1 << 20, DISK_QUEUE_BYTES_MAX);
    let settings = config.cache.disks.iter().enumerate();
    let index_bytes_max = config.cache.memory_bytes / DISK_INDEX_SHARE / config.cache.disks.len() as u64;
    let settings =
        settings.map(|(index, disk)| LogSettings { queue_bytes_max, index_bytes_max, ..LogSettings::new(disk, index) });
    let (settings, metrics) = (settings.collect(), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || Disks::open(settings, &metrics)).await?;
    Ok(Some(Arc::new(opened)))
}

/// Names a self-signed certificate should carry: the sites' hosts.
fn host_names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config.sites.iter().flat_map(|site| site.hosts.iter().cloned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A folder nobody else can enter, short enough for a unix socket's path.
pub(super) fn runtime_folder() -> Result<TempDir, Box<dyn Error>> {
    let parent = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::Builder::new().prefix("reelgate-").tempdir_in(&parent);
    folder
        .map_err(|error| format!("{}: cannot make a folder for sockets: {error}; set TMPDIR", parent.display()).into())
}
