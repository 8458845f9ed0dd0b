//! Compression over the real binary: what a client gets decodes to what the origin gave, whatever either of them codes, and a body
//! is coded once. [`matrix`]: every combination of request fields. [`kept`]: how often, and how it ends. [`origins`]: what origins
//! code, well and badly. [`untouched`]: what is left alone. [`flowing`]: while a body is still coming.

mod codec;
mod flowing;
mod kept;
mod matrix;
mod origins;
mod untouched;

use crate::support::{Edge, Player, Reply, Request, Response, Speech, runtime, wait_for};
use codec::decode;
use http::Method;

/// All a browser takes.
const BROWSER: &str = "gzip, deflate, br, zstd";

/// Text of about `bytes` bytes, as compressible as prose, distinct by `seed`.
fn words(seed: usize, bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed as u64);
    let vocabulary: Vec<String> =
        (0..400).map(|_| (0..random.usize(2..9)).map(|_| random.lowercase()).collect()).collect();
    let mut text = format!("{seed}:");
    while text.len() < bytes {
        text.push_str(&vocabulary[random.usize(0..400)]);
        text.push(if random.u8(0..12) == 0 { '\n' } else { ' ' });
    }
    text.truncate(bytes);
    text
}

/// 200, text, kept for ten minutes, with a strong tag.
fn text(body: impl Into<Vec<u8>>) -> Reply {
    Reply::ok(body)
        .header("Content-Type", "text/plain; charset=utf-8")
        .header("Cache-Control", "max-age=600")
        .header("ETag", "\"v1\"")
}

/// `text` as `coding` by the origin itself.
fn coded_text(coding: &str, body: &str) -> Reply {
    text(codec::encode(coding, body.as_bytes())).header("Content-Encoding", coding).header("Vary", "Accept-Encoding")
}

fn accepting(target: &str, accepted: &str) -> Request {
    Request::get(target).header("Accept-Encoding", accepted)
}

fn coding_of(answer: &Response) -> &str {
    answer.header("content-encoding").unwrap_or_default()
}

/// The body behind the coding.
#[track_caller]
fn decoded(answer: &Response) -> String {
    assert!(answer.complete, "cut short: {:?}", answer.headers);
    let plain = decode(coding_of(answer), &answer.body).unwrap_or_else(|e| panic!("{e}: {:?}", answer.headers));
    String::from_utf8(plain).expect("text")
}

/// Asks until the coded form is stored whole, and gives that answer: a hit with its length. A body too small to be coded stays
/// as it is.
#[track_caller]
fn warm(edge: &Edge, target: &str, coding: &str, fields: &[(&str, &str)]) -> Response {
    let mut request = accepting(target, coding);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    wait_for(&format!("{target} is stored as {coding}"), || {
        let answer = edge.send(&request).expect_status(200);
        let coded = coding_of(&answer) == coding || answer.body.len() < 1024;
        (answer.is_hit() && answer.header("content-length").is_some() && coded).then_some(answer)
    })
}

/// Runs so far, of all codings or of one.
fn runs(edge: &Edge, kind: &str, coding: Option<&str>) -> f64 {
    let mut labels = vec![("kind", kind)];
    labels.extend(coding.map(|coding| ("coding", coding)));
    edge.metrics().value("reelgate_compression_runs_total", &labels)
}

/// One request by a client that takes a body for whole only if its framing says so: the status and how many bytes came.
fn fetch(edge: &Edge, speech: Speech, path: &str, accepted: &str) -> Result<(u16, usize), String> {
    runtime().block_on(async {
        let mut player = Player::open(speech, edge.speaks(speech), None).await?;
        let mut answer = player.ask(Method::GET, path, &[("accept-encoding", accepted)]).await?;
        Ok((answer.status.as_u16(), answer.rest().await?.len()))
    })
}
