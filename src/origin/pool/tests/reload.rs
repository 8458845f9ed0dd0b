//! Origins across reloads.

use super::*;
use crate::config::{LibraryOrigin, Origin, OriginKind};
use crate::origin::Embedded;

fn named(name: &str, settings: HttpOrigin) -> Arc<Origin> {
    Arc::new(Origin { name: name.to_owned(), kind: OriginKind::Http(Box::new(settings)) })
}

#[tokio::test]
async fn only_pools_whose_settings_changed_are_built_anew() {
    let metrics = Arc::new(Metrics::new());
    let one = settings(vec![server("127.0.0.1:1".parse().unwrap())]);
    let two = settings(vec![server("127.0.0.1:2".parse().unwrap())]);
    let (_stop, shutdown) = watch::channel(false);
    let first =
        Origins::build(&[named("kept", one.clone()), named("changed", one.clone())], None, &metrics, &nowhere())
            .unwrap();
    first.start(None, &shutdown);
    let second =
        Origins::build(&[named("kept", one), named("changed", two)], Some(&first), &metrics, &nowhere()).unwrap();
    assert!(Arc::ptr_eq(first.get("kept").unwrap(), second.get("kept").unwrap()), "an equal setting, another Arc");
    assert!(!Arc::ptr_eq(first.get("changed").unwrap(), second.get("changed").unwrap()));
    second.start(Some(&first), &shutdown);
    let text = metrics.render();
    assert!(text.contains(r#"reelgate_origin_server_up{origin="changed",server="127.0.0.1:2"} 1"#), "{text}");
    assert!(!text.contains(r#"origin="changed",server="127.0.0.1:1""#), "{text}");
    first.get("changed").unwrap().publish();
    assert!(!metrics.render().contains(r#"origin="changed",server="127.0.0.1:1""#), "a retired pool is silent");
    assert_eq!(second.status().iter().map(|pool| pool.origin.as_str()).collect::<Vec<_>>(), ["changed", "kept"]);
}

#[test]
fn other_authorities_in_the_same_file_are_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let write = || {
        let key = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap();
        std::fs::write(&ca, key.cert.pem()).unwrap();
    };
    write();
    let mut settings = settings(vec![server("127.0.0.1:1".parse().unwrap())]);
    settings.tls.ca = Some(ca.clone());
    let metrics = Arc::new(Metrics::new());
    let first = Origins::build(&[origin(settings.clone())], None, &metrics, &nowhere()).unwrap();
    let same = Origins::build(&[origin(settings.clone())], Some(&first), &metrics, &nowhere()).unwrap();
    assert!(Arc::ptr_eq(first.get("media").unwrap(), same.get("media").unwrap()));
    write();
    let other = Origins::build(&[origin(settings)], Some(&first), &metrics, &nowhere()).unwrap();
    assert!(!Arc::ptr_eq(first.get("media").unwrap(), other.get("media").unwrap()));
}

#[tokio::test]
async fn a_library_that_cannot_listen_is_an_error_that_names_it() {
    let kind = OriginKind::Library(LibraryOrigin {
        folders: Vec::new(),
        rescan_interval: Duration::from_secs(60),
        index: None,
        codecs: None,
    });
    let origin = Arc::new(Origin { name: "films".to_owned(), kind });
    let error = Origins::build(&[origin], None, &Arc::new(Metrics::new()), &nowhere()).unwrap_err().to_string();
    assert!(error.contains("films") && error.contains("library"), "{error}");
}

#[tokio::test]
async fn a_library_whose_settings_stay_keeps_its_socket_and_a_changed_one_gets_another() {
    let sockets = tempfile::tempdir().unwrap();
    let library = |seconds| {
        let rescan_interval = Duration::from_secs(seconds);
        let kind = OriginKind::Library(LibraryOrigin {
            folders: vec![sockets.path().to_owned()],
            rescan_interval,
            index: None,
            codecs: None,
        });
        Arc::new(Origin { name: "films".to_owned(), kind })
    };
    let metrics = Arc::new(Metrics::new());
    let first = Origins::build(&[library(60)], None, &metrics, &embedded(sockets.path())).unwrap();
    let same = Origins::build(&[library(60)], Some(&first), &metrics, &embedded(sockets.path())).unwrap();
    assert!(Arc::ptr_eq(first.get("films").unwrap(), same.get("films").unwrap()));
    let other = Origins::build(&[library(61)], Some(&first), &metrics, &embedded(sockets.path())).unwrap();
    assert!(!Arc::ptr_eq(first.get("films").unwrap(), other.get("films").unwrap()));
    let count = || std::fs::read_dir(sockets.path()).unwrap().count();
    assert_eq!(count(), 2, "both serve while requests of either are in flight");
    drop((first, same));
    assert_eq!(count(), 1);
}

/// Where no library can put a socket.
fn nowhere() -> Embedded {
    embedded(std::path::Path::new("/nonexistent/reelgate"))
}

fn embedded(folder: &std::path::Path) -> Embedded {
    Embedded { folder: folder.to_owned(), transcoder: None }
}

fn origin(settings: HttpOrigin) -> Arc<Origin> {
    named("media", settings)
}
