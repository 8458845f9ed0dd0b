//! The library over its real socket, from real folders.

mod fixture;

use super::*;
use ::http::{Method, StatusCode};
use fixture::*;
use http_body_util::BodyExt;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test]
async fn films_and_hls_folders_are_titles() {
    let library = library(|films| {
        fs::create_dir_all(films.join("deep/er")).unwrap();
        fs::write(films.join("deep/er/Beta.MP4"), movie(1000, 90_500)).unwrap();
        fs::write(films.join("alpha.mkv"), "matroska").unwrap();
        fs::write(films.join("notes.txt"), "no film").unwrap();
        fs::write(films.join(".hidden.mp4"), "hidden").unwrap();
        fs::create_dir(films.join(".trash")).unwrap();
        fs::write(films.join(".trash/old.mp4"), "hidden").unwrap();
        hls_title(&films.join("Gamma <b>"));
        fs::create_dir(films.join("dash")).unwrap();
        for name in ["manifest.mpd", "init-0.mp4", "chunk-1.ts"] {
            fs::write(films.join("dash").join(name), "segments are no films").unwrap();
        }
    })
    .await;
    let titles = library.titles("").await;
    let told: Vec<_> = titles
        .iter()
        .map(|title| (title["name"].as_str().unwrap(), title["kind"].as_str().unwrap(), title["duration_s"].as_f64()))
        .collect();
    assert_eq!(told, [("alpha", "file", None), ("Beta", "file", Some(90.5)), ("Gamma <b>", "hls", Some(6.25))]);
    assert_eq!(titles[0]["bytes"], 8);
    assert_eq!(library.metrics.library_titles.with_label_values(&["films"]).get(), 3);

    let found = library.titles("?q=ALPH").await;
    assert_eq!(found.iter().map(|title| &title["name"]).collect::<Vec<_>>(), ["alpha"]);
    assert!(library.titles("?q=nothing").await.is_empty());
    let listed = library.get("/titles.json").await;
    assert_eq!(listed.header("cache-control"), "public, max-age=5");
    let head = library.ask(Method::HEAD, "/titles.json", &[]).await;
    assert_eq!((head.header("content-length"), head.text().as_str()), (listed.header("content-length"), ""));
    let known = library.ask(Method::GET, "/titles.json", &[("if-none-match", listed.header("etag"))]).await;
    assert_eq!((known.status, known.header("content-length")), (StatusCode::NOT_MODIFIED, ""));

    let index = library.get("/").await;
    assert!(!index.text().contains("<b>"), "{}", index.text());
    assert!(
        player::is_built() || index.text().contains("Gamma &lt;b&gt;"),
        "the plain page lists titles: {}",
        index.text()
    );
    assert_eq!(index.header("cache-control"), "no-cache");
    let watch = library.get(&library.path_of("Gamma <b>").await.replace("/t/", "/watch/")).await;
    assert!(watch.text().contains("<title>Gamma &lt;b&gt;</title>") && !watch.text().contains("<b>"));
    assert!(player::is_built() || watch.text().contains("master.m3u8"), "the plain page plays by itself");
    assert_eq!(library.get("/watch/unknown").await.status, 404);
}

#[tokio::test]
async fn a_scan_stops_at_its_depth_and_says_so() {
    let library = library(|films| {
        let deepest = films.join("d/".repeat(scan::DEPTH_MAX));
        fs::create_dir_all(deepest.join("too-deep")).unwrap();
        fs::write(deepest.join("deep.mp4"), "film").unwrap();
        fs::write(deepest.join("too-deep/lost.mp4"), "film").unwrap();
    })
    .await;
    let names: Vec<_> = library.titles("").await.iter().map(|title| title["name"].clone()).collect();
    assert_eq!(names, ["deep"]);
    assert!(library.metrics.limits_reached.with_label_values(&["library_entries"]).get() > 0);
}

#[test]
fn a_scan_gives_on_what_it_finds_in_batches_and_so_far() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..1200 {
        fs::write(directory.path().join(format!("{number}.mkv")), "film").unwrap();
    }
    let folders = [Arc::new(Folder::new(directory.path()))];
    let (saved, so_far) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (found, cancelled) = (AtomicUsize::new(0), CancellationToken::new());
    let mut previous = Catalog::default();
    for (save_all, batches) in [(false, vec![500, 500, 200]), (false, vec![0]), (true, vec![500, 500, 200])] {
        let scanned = scan::scan(
            &folders,
            &scan::Work {
                previous: &previous,
                found: &found,
                save: &|titles| saved.lock().push(titles.len()),
                save_all,
                so_far: &|titles| so_far.lock().push(titles.len()),
                so_far_interval: Duration::ZERO,
                cancelled: &cancelled,
            },
        );
        previous = scanned.unwrap().catalog;
        assert_eq!(std::mem::take(&mut *saved.lock()), batches);
        assert_eq!(std::mem::take(&mut *so_far.lock()), (1..=1200).collect::<Vec<_>>());
    }
    assert_eq!(found.into_inner(), 1200);
}

#[tokio::test]
async fn a_film_is_served_whole_with_validators() {
    let library = library(|films| fs::write(films.join("film.mkv"), "0123456789").unwrap()).await;
    let path = format!("{}/file", library.path_of("film").await);
    let whole = library.get(&path).await;
    assert_eq!((whole.status, whole.text().as_str()), (StatusCode::OK, "0123456789"));
    for (name, value) in [
        ("content-type", "video/matroska"),
        ("content-length", "10"),
        ("accept-ranges", "bytes"),
        ("cache-control", "public, max-age=3600"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(whole.header(name), value);
    }
    let etag = whole.header("etag");
    assert!(etag.starts_with('"') && etag.len() == 34, "{etag}");
    assert!(httpdate::parse_http_date(whole.header("last-modified")).is_ok());

    let head = library.ask(Method::HEAD, &path, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status, head.header("content-length"), head.header("etag")), (StatusCode::OK, "10", etag));
    assert!(head.text().is_empty());

    for (field, value, status) in [
        ("if-none-match", etag, 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", whole.header("last-modified"), 304),
        ("if-match", "\"other\"", 412),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT", 412),
    ] {
        let reply = library.ask(Method::GET, &path, &[(field, value)]).await;
        assert_eq!(reply.status, status, "{field}: {value}");
        if status == 304 {
            assert_eq!((reply.header("etag"), reply.header("content-length")), (etag, ""));
        }
    }
}

#[tokio::test]
async fn ranges_of_a_film() {
    let library = library(|films| fs::write(films.join("film.mp4"), "0123456789").unwrap()).await;
    let path = format!("{}/file", library.path_of("film").await);
    let etag = library.get(&path).await.header("etag").to_owned();
    for (range, body, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=0-99", "0123456789", "bytes 0-9/10"),
    ] {
        let part = library.ask(Method::GET, &path, &[("range", range), ("if-range", &etag)]).await;
        assert_eq!((part.status, part.text().as_str()), (StatusCode::PARTIAL_CONTENT, body), "{range}");
        assert_eq!((part.header("content-range"), part.header("etag")), (content_range, etag.as_str()));
    }
    for fields in [
        [("range", "bytes=0-1"), ("if-range", "\"older\"")],
        [("range", "bytes=0-1,4-5"), ("accept", "*/*")],
        [("range", "bytes=5-2"), ("accept", "*/*")],
    ] {
        let whole = library.ask(Method::GET, &path, &fields).await;
        assert_eq!((whole.status, whole.header("content-range")), (StatusCode::OK, ""), "{fields:?}");
        assert_eq!(whole.text(), "0123456789");
    }
    let beyond = library.ask(Method::GET, &path, &[("range", "bytes=10-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10"));
    assert_eq!(beyond.header("cache-control"), "no-store");
}

#[tokio::test]
async fn what_lies_below_a_title() {
    let library = library(|films| {
        hls_title(&films.join("show"));
        fs::write(films.join("show/folder.jpg"), "cover").unwrap();
        // It would come first, if it could be read.
        fs::write(films.join("show/poster.jpg"), "locked").unwrap();
        fs::set_permissions(films.join("show/poster.jpg"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::write(films.join("show/manifest.mpd"), "<MPD/>").unwrap();
        fs::write(films.join("film.mp4"), "film").unwrap();
        fs::write(films.join("film.jpg"), "still").unwrap();
        fs::write(films.join("other.mp4"), "film").unwrap();
    })
    .await;
    let (show, film, other) =
        (library.path_of("show").await, library.path_of("film").await, library.path_of("other").await);
    for (path, content_type, cache_control) in [
        (format!("{show}/master.m3u8"), "application/vnd.apple.mpegurl", "public, max-age=1"),
        (format!("{show}/v/0.ts"), "video/mp2t", "public, max-age=3600"),
        (format!("{show}/manifest.mpd"), "application/dash+xml", "public, max-age=1"),
        (format!("{show}/poster.jpg"), "image/jpeg", "public, max-age=3600"),
        (format!("{film}/poster.jpg"), "image/jpeg", "public, max-age=3600"),
    ] {
        let reply = library.get(&path).await;
        let told = (reply.status, reply.header("content-type"), reply.header("cache-control"));
        assert_eq!(told, (StatusCode::OK, content_type, cache_control), "{path}");
    }
    let settled = fs::File::open(library.films().join("show/master.m3u8")).unwrap();
    settled.set_modified(std::time::SystemTime::now() - HOUR).unwrap();
    assert_eq!(library.get(&format!("{show}/master.m3u8")).await.header("cache-control"), "public, max-age=60");

    for path in [
        format!("{show}/v/.secret"),
        format!("{show}/file"),
        format!("{show}/v"),
        show.clone(),
        format!("{other}/poster.jpg"),
        format!("{film}/manifest.mpd"),
        format!("{film}/other.mp4"),
        "/t/unknown/file".into(),
        "/t".into(),
        "/favicon.ico".into(),
    ] {
        let reply = library.get(&path).await;
        let told = (reply.status, reply.header("content-type"), reply.header("cache-control"));
        assert_eq!(told, (StatusCode::NOT_FOUND, "application/problem+json", "no-store"), "{path}");
    }
    let later: Value = serde_json::from_str(&library.get(&format!("{film}/master.m3u8")).await.text()).unwrap();
    assert!(later["status"] == 404 && later["detail"].as_str().unwrap().contains("renditions"), "{later}");
}

#[tokio::test]
async fn nothing_outside_the_folders_is_served() {
    let library = library(|films| {
        let outside = films.parent().unwrap();
        fs::write(outside.join("secret.mp4"), "SECRET").unwrap();
        hls_title(&films.join("show"));
        hls_title(&outside.join("elsewhere"));
        symlink("../secret.mp4", films.join("relative.mp4")).unwrap();
        symlink(outside.join("secret.mp4"), films.join("absolute.mp4")).unwrap();
        symlink(outside.join("elsewhere"), films.join("linked")).unwrap();
        symlink("../../secret.mp4", films.join("show/out.mp4")).unwrap();
        symlink("../..", films.join("show/up")).unwrap();
        symlink("/", films.join("show/root")).unwrap();
        fs::write(films.join("swapped.mp4"), "film").unwrap();
    })
    .await;
    let names: Vec<_> = library.titles("").await.iter().map(|title| title["name"].clone()).collect();
    assert_eq!(names, ["show", "swapped"]);
    let show = library.path_of("show").await;
    for rest in [
        "out.mp4",
        "up/secret.mp4",
        "root/etc/passwd",
        "../../secret.mp4",
        "%2e%2e/%2e%2e/secret.mp4",
        "..%2f..%2fsecret.mp4",
        "%2e%2e%5c%2e%2e%5csecret.mp4",
        "v/../../../secret.mp4",
        "/etc/passwd",
        "%2fetc/passwd",
        "v/0.ts%00.mp4",
        "%c0%ae%c0%ae/secret.mp4",
        "v//0.ts",
        "v/0.ts/",
    ] {
        let reply = library.get(&format!("{show}/{rest}")).await;
        assert!(matches!(reply.status.as_u16(), 400 | 404), "{rest}: {}", reply.status);
        assert!(!reply.text().contains("SECRET") && !reply.text().contains("root:"), "{rest}");
    }
    let swapped = library.path_of("swapped").await;
    fs::remove_file(library.films().join("swapped.mp4")).unwrap();
    symlink("../secret.mp4", library.films().join("swapped.mp4")).unwrap();
    assert_eq!(library.get(&format!("{swapped}/file")).await.status, 404, "a link swapped in after the scan");
}

#[tokio::test]
async fn a_replaced_file_goes_on_as_it_began() {
    let library = library(|films| fs::write(films.join("film.mp4"), vec![1; LARGE_BYTES as usize]).unwrap()).await;
    let path = format!("{}/file", library.path_of("film").await);
    let mut sender = connect(library.library.socket()).await;
    let response = sender.send_request(request(Method::GET, &path, &[])).await.unwrap();
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    let first = first_chunk(&mut body).await;
    fs::write(library.films().join("new"), vec![2; LARGE_BYTES as usize]).unwrap();
    fs::rename(library.films().join("new"), library.films().join("film.mp4")).unwrap();
    let rest = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    assert_eq!((first.len() + rest.len()) as u64, LARGE_BYTES);
    assert!(rest.iter().all(|byte| *byte == 1));

    let part = library.ask(Method::GET, &path, &[("range", "bytes=0-0"), ("if-range", &etag)]).await;
    assert_eq!(part.status, 200, "the old validator must not select a part of the new version");
    assert_ne!(part.header("etag"), etag);
}

/// Starts a response, meddles with the file, and expects the response to be cut off.
async fn aborts(meddle: impl FnOnce(&fs::File)) {
    let library =
        library(|films| fs::File::create(films.join("film.mp4")).unwrap().set_len(LARGE_BYTES).unwrap()).await;
    // Old, so that no clock is too coarse to tell the change.
    let file = fs::File::options().write(true).open(library.films().join("film.mp4")).unwrap();
    file.set_modified(std::time::SystemTime::now() - HOUR).unwrap();
    let path = format!("{}/file", library.path_of("film").await);
    let mut sender = connect(library.library.socket()).await;
    let response = sender.send_request(request(Method::GET, &path, &[])).await.unwrap();
    assert_eq!(response.headers()["content-length"], LARGE_BYTES.to_string());
    let mut body = response.into_body();
    first_chunk(&mut body).await;
    meddle(&file);
    assert!(timeout(PATIENCE, body.collect()).await.unwrap().is_err(), "the response ended as if it were whole");
    assert!(!sender.is_ready(), "the connection must not be used again");
}

#[tokio::test]
async fn a_shrinking_file_aborts_the_connection() {
    aborts(|file| file.set_len(1000).unwrap()).await;
}

#[tokio::test]
async fn a_file_rewritten_in_place_aborts_the_connection() {
    aborts(|file| {
        use std::os::unix::fs::FileExt;
        file.write_all_at(b"another version", LARGE_BYTES - 100).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_new_film_is_found_by_its_event() {
    let library = library(|films| fs::create_dir(films.join("sub")).unwrap()).await;
    fs::write(library.films().join("sub/new.mp4"), "film").unwrap();
    library.eventually_lists("new").await;
    fs::create_dir(library.films().join("later")).unwrap();
    fs::write(library.films().join("later/newer.mp4"), "film").unwrap();
    library.eventually_lists("newer").await;
}

#[tokio::test]
async fn a_folder_mounted_later_is_found_by_the_interval() {
    let directory = tempfile::tempdir().unwrap();
    let films = directory.path().join("films");
    let socket = directory.path().join("library.sock");
    let metrics = Arc::new(Metrics::new());
    let settings = settings(vec![films.clone()], Duration::from_millis(50));
    let started = Library::start("films", &settings, Arc::clone(&metrics), socket, None).unwrap();
    timeout(PATIENCE, started.scanned()).await.unwrap();
    let library = Fixture { directory, metrics, library: started };
    assert!(library.titles("").await.is_empty());
    fs::create_dir(&films).unwrap();
    fs::write(films.join("film.mp4"), "film").unwrap();
    library.eventually_lists("film").await;
}

#[tokio::test]
async fn ids_survive_restart_and_another_order_of_folders() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
    for folder in [&a, &b] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("film.mp4"), "film").unwrap();
    }
    let mut seen = Vec::new();
    for (run, folders) in [vec![a.clone(), b.clone()], vec![b, a]].into_iter().enumerate() {
        let socket = directory.path().join(format!("{run}.sock"));
        let library = Library::start("films", &settings(folders, HOUR), Arc::default(), socket, None).unwrap();
        let catalog = timeout(PATIENCE, library.state.catalog()).await.unwrap();
        let mut ids: Vec<_> = catalog.search(None).iter().map(|title| title.id.clone()).collect();
        ids.sort();
        seen.push(ids);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0][0], seen[0][1], "the same name in two folders is two titles");
}

#[tokio::test]
async fn a_library_is_read_only() {
    let library = library(|_| {}).await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let reply = library.ask(method, "/titles.json", &[]).await;
        assert_eq!((reply.status, reply.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    }
}

#[tokio::test]
async fn connections_are_kept_until_it_stops() {
    let library = library(|_| {}).await;
    let mut sender = connect(library.library.socket()).await;
    for _ in 0..3 {
        let response = sender.send_request(request(Method::GET, "/titles.json", &[])).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
        timeout(PATIENCE, sender.ready()).await.unwrap().unwrap();
    }
    let socket = library.library.socket().to_path_buf();
    let Fixture { library, directory: _directory, .. } = library;
    drop(library);
    assert!(!socket.exists());
    let deadline = Instant::now() + PATIENCE;
    while !sender.is_closed() {
        assert!(Instant::now() < deadline, "the idle connection was not closed");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn only_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("library.sock");
    let start = || Library::start("films", &settings(vec![], HOUR), Arc::default(), socket.clone(), None);

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let first = start().unwrap();
    assert_eq!(start().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    connect(&socket).await;
    drop(first);
    fs::write(&socket, "a file").unwrap();
    assert_eq!(start().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a file");
}
