//! The process log: `tracing` to standard error. Pingora and its libraries write through the `log` crate; `tracing-subscriber`
//! bridges it.
//!
//! Invariant: no request target, header or body reaches it, since they hold credentials. Pingora prints them: every `warn!` and
//! `error!` of `pingora_proxy` ends in `request_summary` (method, path with query, Host), `pingora_core::apps::http_app` prints
//! the same on a failed write, `pingora_cache` prints cache keys with what it fails to purge, HTTP/1 parse errors carry the raw
//! request, and below `warn` whole header maps follow. Those modules are therefore off, whatever the configured level says,
//! and the rest of Pingora never goes below `warn`. What they would have told is told by the edge: in the access log (redacted) and
//! in `reelgate_origin_errors_total`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Targets that print what clients sent, and how much of them may be heard. Set after the configured directives, so that
/// `debug` or `pingora_proxy=trace` cannot bring them back.
const MUTED: [&str; 18] = [
    "pingora_proxy=off",
    "pingora_cache=off",
    "pingora_core=warn",
    "pingora_core::apps=off",
    "pingora_core::protocols::http=off",
    "pingora_http=off",
    "pingora_error=off",
    "pingora_pool=warn",
    "pingora_runtime=warn",
    "pingora_timeout=warn",
    "pingora_rustls=warn",
    "h2=off",
    "hyper=warn",
    "hyper_util=warn",
    "axum=warn",
    "rustls=warn",
    "mio=warn",
    "notify=warn",
];

/// The configuration's `log.level`, as in `RUST_LOG`, with what must stay silent on top.
///
/// # Errors
/// A directive that cannot be read, by position.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let mut own = Vec::new();
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let muted = MUTED.iter().filter_map(|muted| muted.split('=').next()).any(|root| targets(directive, root));
        if !muted {
            own.push(directive);
        }
    }
    let mut filter = EnvFilter::builder().parse(own.join(","))?;
    for directive in MUTED {
        filter = filter.add_directive(directive.parse()?);
    }
    Ok(filter)
}

/// Whether a directive is about this crate or a module inside it: a more specific directive would win over the muted one.
fn targets(directive: &str, root: &str) -> bool {
    let target = directive.split(['=', '[']).next().unwrap_or(directive);
    target == root || target.strip_prefix(root).is_some_and(|rest| rest.starts_with("::"))
}

/// Starts the process log; once per process, before anything else runs.
///
/// # Errors
/// What is wrong with `level`, or that a log is already running.
pub fn init(level: &str) -> Result<(), String> {
    let filter = filter(level)
        .map_err(|error| format!("log.level: {error}; use for example `info` or `warn,reelgate=debug`"))?;
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init()
        .map_err(|error| format!("the process log is already running: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is heard of `speak` under a level.
    fn heard(level: &str, speak: fn()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(level).expect("a level"))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, speak);
        String::from_utf8(captured.0.lock().clone()).expect("UTF-8")
    }

    #[test]
    fn no_level_lets_pingora_print_request_targets() {
        for level in
            ["info", "trace", "info,pingora_proxy=trace", "debug,pingora_core::apps::http_app=debug,h2::codec=trace"]
        {
            let heard = heard(level, || {
                tracing::error!(target: "pingora_proxy", "Fail to proxy: GET /?api_key=s3cret");
                tracing::warn!(target: "pingora_proxy::proxy_h1", "GET /?api_key=s3cret");
                tracing::error!(target: "pingora_core::apps::http_app", "GET /?api_key=s3cret");
                tracing::warn!(target: "pingora_core::protocols::http::v1::server", "s3cret");
                tracing::warn!(target: "pingora_cache", "Failed to purge s3cret");
                tracing::debug!(target: "pingora_core::connectors", "s3cret");
                tracing::trace!(target: "h2::codec", "s3cret");
                tracing::warn!(target: "pingora_core::connectors", "kept");
                tracing::info!(target: "reelgate::app", "kept");
            });
            assert!(!heard.contains("s3cret"), "{level}: {heard}");
            assert_eq!(heard.matches("kept").count(), 2, "{level}: {heard}");
        }
    }

    #[test]
    fn a_wrong_level_is_an_error() {
        assert!(filter("info,reelgate=loud").is_err());
    }

    /// Installed by `try_init` only with the default feature `tracing-log`; without it Pingora would be mute altogether.
    #[test]
    fn the_log_crate_is_bridged_and_filtered() {
        // Another test of this process may have been first.
        let _ = init("info");
        assert!(init("info").is_err());
        let heard = heard("trace", || {
            log::error!(target: "pingora_proxy::proxy_h2", "Fail to proxy: GET /?api_key=s3cret");
            log::error!(target: "pingora_core::connectors::l4", "kept");
        });
        assert!(heard.contains("kept") && !heard.contains("s3cret"), "{heard}");
    }
}
