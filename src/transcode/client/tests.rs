//! Two sidecars that are busy: who is asked what.

use super::super::protocol::{Colours, Picture, Wanted};
use super::*;
use crate::media::codec::Codec;
use crate::media::demuxer::Demuxer;
use crate::media::fraction::Fraction;
use crate::media::grid::Grid;
use crate::source::Stamp;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UnixListener;

const BUILD: &str = "ffmpeg + cpu-1";

/// One that has no room, and how often it was asked.
fn busy(path: &Path) -> Arc<AtomicUsize> {
    let (listener, asked) = (UnixListener::bind(path).unwrap(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            let respond = service_fn(move |_: http::Request<Incoming>| {
                counted.fetch_add(1, Ordering::Relaxed);
                async {
                    let response = http::Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
                    Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).unwrap())
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond));
        }
    });
    asked
}

fn job() -> Job {
    let number = |text| Fraction::parse(text).unwrap();
    let colours = Colours::Bt709;
    let picture =
        Picture { colours, interlaced: false, turned: false, quarter_turns: 0, transparent: false, plain: false };
    let film = Film {
        demuxer: Demuxer::Indexed,
        lead_ms: 0,
        sound_start: number("0"),
        video_stream: 0,
        codec: "h264".into(),
        width: 320,
        height: 180,
        start: number("0"),
        file_start: number("0"),
        grid: Grid { frame_rate: number("25"), frames: 1000 },
        picture,
        audio: vec![],
        text: vec![],
        left_out: vec![],
        encoders: [(Codec::H264, "libx264".to_owned())].into(),
        build: BUILD.to_owned(),
        plan: None,
    };
    let stamp = Stamp { inode: 1, modified_s: 2, modified_ns: 3, bytes: 4 };
    let source = Source { folder: "/films".into(), path: "Film.mp4".into(), stamp };
    Job { title: "film".into(), source, film, wanted: Wanted::Video { rung: "240p".into(), segment: 0 } }
}

#[tokio::test]
async fn what_is_made_ahead_is_asked_of_the_first_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["one", "two"].map(|name| folder.path().join(name));
    let asked = paths.each_ref().map(|path| busy(path));
    let servers: Vec<_> = paths.into_iter().map(|path| Server::new("a server", None, Way::Unix(path))).collect();
    let fleet = Fleet::new(servers.iter().map(|server| (Arc::clone(&server.name), false)));
    let client = Client { servers, fleet: Mutex::new(fleet), metrics: None };
    for member in [0, 1] {
        client.fleet.lock().looked(member, Some(BUILD), Instant::now());
    }
    let counts = || asked.each_ref().map(|asked| asked.load(Ordering::Relaxed));
    assert_eq!(client.ahead(&Ahead { job: job(), segments: 4 }).await, Err(Error::Busy));
    assert_eq!(counts().iter().sum::<usize>(), 1);
    let first = counts();
    assert_eq!(client.segment(&job()).await.err(), Some(Error::Busy));
    assert_eq!(counts(), first.map(|before| before + 1), "what somebody waits for anybody may make");
}
