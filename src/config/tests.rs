//! The contract's file, everything at once, hostile input; `documents` holds schema, examples and conf/README.md together.

mod documents;
mod errors;

use super::*;
use crate::http::content_coding::Coding;
use std::path::Path;

/// The file of the contract, to the letter.
const SAMPLE: &str = "\
listen:
  - address: 0.0.0.0:8080
  - address: 0.0.0.0:8443
    tls: self-signed            # or {cert: …, key: …}
    http3: true
origins:
  media:
    kind: http                  # http | jellyfin | plex | library
    servers: [http://127.0.0.1:9000]
sites:
  - origin: media               # hosts: […] and paths: […] where there are several
cache:
  memory: 512MiB
  disk: { path: ./cache, size: 20GiB }
admin: { address: 127.0.0.1:9090 }
";

fn read(text: &str) -> Result<Loaded, Diagnostics> {
    from_str(text, Path::new("/etc/reelgate/edge.yaml"), &|name| match name {
        "REELGATE_TOKEN" => Some("hunter2-hunter2".to_owned()),
        "INJECTION" => Some("x\nworkers: 3".to_owned()),
        "PORT" => Some("8123".to_owned()),
        _ => None,
    })
}

#[test]
fn the_contracts_file_loads_without_a_warning() {
    let loaded = read(SAMPLE).unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen[1].tls, [Certificate::SelfSigned]);
    assert_eq!(config.cache.memory_bytes, 512 << 20);
    assert_eq!(config.cache.disks[0].path, Path::new("/etc/reelgate/cache"));
    assert_eq!(config.sites[0].name, "default");
    assert!(config.sites[0].host_in_key);
    assert!(config.worker_threads >= 1);
    assert_eq!(loaded.files, [Path::new("/etc/reelgate/edge.yaml")]);
    let warnings = loaded.warnings.list.iter().map(|found| (found.line, found.message.as_str())).collect::<Vec<_>>();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn variables_fill_scalars_and_cannot_add_keys() {
    let text = SAMPLE.replace("8080", "${PORT}").replace("origin: media", "origin: media\n    name: ${NAME:-tv}");
    let loaded = read(&text).unwrap();
    assert_eq!(loaded.config.listen[0].address.to_string(), "0.0.0.0:8123");
    assert_eq!(loaded.config.sites[0].name, "tv");
    let found = read(&SAMPLE.replace("self-signed ", "${INJECTION} ")).unwrap_err();
    assert_eq!((found.count(Severity::Error), found.list[0].line), (1, 4), "{found}");
    let found = read(&format!("{SAMPLE}workers: ${{PORT:-1}}\n")).unwrap_err();
    assert_eq!((found.count(Severity::Error), found.list[0].line), (1, 16), "beyond 1024");
}

#[test]
fn what_is_shown_loads_to_the_same_configuration() {
    let files = documents::examples().into_iter().map(|(_, text)| text).chain([SAMPLE.to_owned()]);
    for text in files {
        let loaded = read(&text).unwrap();
        let shown = show(&loaded);
        let again =
            from_str(&shown, Path::new("/elsewhere/edge.yaml"), &|_| None).unwrap_or_else(|e| panic!("{e}\n{shown}"));
        assert_eq!(show(&again), shown);
        let mut again = again.config;
        again.file.clone_from(&loaded.config.file);
        // A hash table has no order to compare; it is made of the sites, which are compared.
        again.routes.clone_from(&loaded.config.routes);
        // Debug shows every value but secrets, which are starred in both.
        assert_eq!(format!("{again:?}"), format!("{:?}", loaded.config));
    }
}

#[test]
fn no_secret_is_shown() {
    let text = SAMPLE.replace("127.0.0.1:9090", "127.0.0.1:9090, token: \"${REELGATE_TOKEN}\"").replace(
        "- origin: media",
        "- headers: {request: {set: {Authorization: Bearer hunter2, X-A: \"b$$$${c}\"}}}\n    origin: media",
    );
    let loaded = read(&text).unwrap();
    let all = format!("{}{loaded:?}", show(&loaded));
    assert!(!all.contains("hunter2") && all.contains("Authorization: '***'"), "{all}");
}

#[test]
fn a_library_and_what_a_site_may_say() {
    let loaded = read(
        "listen: [{address: \"[::]:80\"}, {address: 0.0.0.0:8443, tls: [self-signed, {cert: a.pem, key: a.key}]}]\n\
         origins: {films: {kind: library, folders: [films]}, far: {kind: http, servers: [{url: \"https://far\", weight: 3}]}}\n\
         sites:\n\
         - {origin: films, hosts: [TV.example.org], redirect_https: true}\n\
         - {origin: far, hosts: [\"*.example.org\"], rate: {requests_per_second: 2.5}, cache: {set_cookie: strip}}\n",
    )
    .unwrap();
    let [films, far] = loaded.config.sites.as_slice() else { panic!("two sites") };
    assert_eq!((films.hosts[0].as_str(), films.https_port, films.host_in_key), ("tv.example.org", Some(8443), false));
    assert_eq!(far.rate, Some(Rate { per_second: 2.5, burst: 3 }));
    assert!(far.cache.strip_set_cookie && far.host_in_key);
    assert_eq!(loaded.files[1..], [PathBuf::from("/etc/reelgate/a.pem"), PathBuf::from("/etc/reelgate/a.key")]);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let old = read(SAMPLE).unwrap().config;
    assert!(restart_differences(&old, &read(SAMPLE).unwrap().config).is_empty());
    let new =
        SAMPLE.replace("8080", "8081").replace("512MiB", "1GiB").replace("20GiB", "30GiB").replace("9090", "9091");
    let new = new + "workers: 77\ntranscode: {jobs: 7}\n";
    let new = read(&new).unwrap().config;
    assert_eq!(
        restart_differences(&old, &new),
        ["listen", "cache.memory", "cache.disk", "admin.address", "transcode", "workers"]
    );
}

#[test]
fn a_file_is_found_from_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.yaml");
    assert!(load(&path).unwrap_err().to_string().contains("cannot read"));
    std::fs::write(&path, SAMPLE).unwrap();
    assert_eq!(load(&path).unwrap().config.cache.disks[0].path, folder.path().join("cache"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_site_changes_what_it_names_of_compression() {
    let blocks = "compression: {codings: [gzip, br], min_size: 2KiB, levels: {gzip: 3}, popular_levels: {br: 10}, types: [\"*+JSON\"]}\n";
    let site =
        "  - {origin: media, hosts: [a.example], compression: {uncached: false, origin: pass, max_size: 4KiB}}\n";
    let loaded = read(&format!("{}{blocks}", SAMPLE.replace("cache:\n", &format!("{site}cache:\n")))).unwrap();
    let [common, changed] = loaded.config.sites.as_slice() else { panic!("two sites") };
    let (common, changed) = (&common.compression, &changed.compression);
    assert_eq!((&common.codings[..], common.levels), (&[Coding::Gzip, Coding::Brotli][..], [5, 6, 3]));
    assert_eq!((common.popular_levels, common.popular_after), ([10, 19, 9], 16));
    assert!(common.types.matches("application/x+json; charset=utf-8") && !common.types.matches("text/html"));
    assert_eq!((common.origin, common.uncached), (OriginCoding::Recode, true));
    let expected =
        Compression { uncached: false, origin: OriginCoding::Pass, max_bytes: 4096, ..Compression::clone(common) };
    assert_eq!(**changed, expected);
    let plain = read(SAMPLE).unwrap().config;
    assert_eq!((plain.sites[0].compression.min_bytes, plain.sites[0].compression.max_bytes), (1 << 10, 16 << 20));
    assert_eq!(plain.sites[0].compression.types, Default::default());
}

#[test]
fn mistakes_in_compression_say_what_to_do() {
    for (block, words) in [
        ("{codings: []}", "at least"),
        ("{codings: [br, gzip, br]}", "given twice"),
        ("{codings: [deflate]}", "allowed: br, zstd, gzip"),
        ("{types: [json]}", "application/json"),
        ("{types: [text/html;charset=utf-8]}", "leave out"),
        ("{levels: {br: 12}}", "0 to 11"),
        ("{popular_levels: {zstd: 20}}", "1 to 19"),
        ("{levels: {gzip: 0}}", "1 to 9"),
        ("{min_size: 32MiB}", "no answer is both"),
        ("{origin: any}", "allowed: recode"),
        ("{level: 5}", "did you mean `levels`"),
    ] {
        let found = read(&format!("{SAMPLE}compression: {block}\n")).unwrap_err().to_string();
        assert!(found.contains(words), "{block}: {found}");
    }
    let site = SAMPLE.replace("- origin: media ", "- compression: {max_size: 1B}\n    origin: media ");
    assert!(read(&site).unwrap_err().to_string().contains("no answer is both"));
    let lower = read(&format!("{SAMPLE}compression: {{popular_levels: {{br: 2}}}}\n")).unwrap();
    assert!(lower.warnings.to_string().contains("popular_after: 0"), "{}", lower.warnings);
}
