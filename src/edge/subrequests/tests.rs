//! What is whole and what is broken off, by what Pingora sends.

use super::*;
use pingora_error::{Error, ErrorType};
use tokio::sync::{mpsc, oneshot};

fn head(status: u16, length: Option<u64>) -> HttpTask {
    let mut header = ResponseHeader::build(status, None).unwrap();
    length.iter().for_each(|length| header.insert_header("content-length", *length).unwrap());
    HttpTask::Header(Box::new(header), false)
}

fn body(bytes: &'static [u8]) -> HttpTask {
    HttpTask::Body(Some(Bytes::from_static(bytes)), false)
}

fn failed() -> HttpTask {
    HttpTask::Failed(Error::new(ErrorType::ConnectionClosed))
}

/// The statuses, the body, and whether it was whole.
async fn read(tasks: Vec<HttpTask>) -> (Vec<u16>, Vec<u8>, bool) {
    let (sender, rx) = mpsc::channel(tasks.len().max(1));
    for task in tasks {
        sender.try_send(task).unwrap();
    }
    drop(sender);
    let (tx, subreq_wants_body, subreq_proxy_error) = (mpsc::channel(1).0, oneshot::channel().1, oneshot::channel().1);
    let mut incoming = Incoming::new(SubrequestHandle { tx, rx, subreq_wants_body, subreq_proxy_error });
    let (mut statuses, mut all) = (Vec::new(), Vec::new());
    while let Some(header) = incoming.head().await {
        statuses.push(header.status.as_u16());
        if !header.status.is_informational() {
            break;
        }
    }
    while let Some(bytes) = incoming.bytes().await {
        all.extend_from_slice(&bytes);
    }
    assert!(incoming.head().await.is_none() && incoming.bytes().await.is_none(), "an end stays one");
    (statuses, all, incoming.is_whole())
}

#[tokio::test]
async fn what_ends_with_a_word_is_whole() {
    let chunked = read(vec![head(200, None), body(b"ab"), body(b""), body(b"c"), HttpTask::Done]).await;
    assert_eq!(chunked, (vec![200], b"abc".to_vec(), true));
    let last = HttpTask::Body(Some(Bytes::from_static(b"b")), true);
    assert_eq!(read(vec![head(200, None), body(b"a"), last]).await, (vec![200], b"ab".to_vec(), true));
    // Of a HEAD's answer and a 304 the length is that of another body.
    assert_eq!(read(vec![head(304, Some(9)), HttpTask::Done]).await, (vec![304], vec![], true));
}

#[tokio::test]
async fn trailers_are_passed_over_and_what_follows_decides() {
    let trailer = || HttpTask::Trailer(None);
    let whole = read(vec![head(200, None), body(b"a"), trailer(), HttpTask::Done]).await;
    assert_eq!(whole, (vec![200], b"a".to_vec(), true));
    assert!(!read(vec![head(200, Some(2)), body(b"a"), trailer()]).await.2, "short");
}

#[tokio::test]
async fn an_answer_of_our_own_ends_without_a_word_and_its_length_says_that_it_is_whole() {
    assert_eq!(read(vec![head(502, Some(3)), body(b"abc")]).await, (vec![502], b"abc".to_vec(), true));
    assert_eq!(read(vec![head(200, Some(0))]).await, (vec![200], vec![], true));
}

#[tokio::test]
async fn all_other_silence_is_an_answer_broken_off() {
    for tasks in [
        vec![head(200, None), body(b"abc")],
        vec![head(200, Some(4)), body(b"abc")],
        vec![head(200, Some(3)), body(b"abc"), failed()],
        vec![head(200, None), body(b"abc"), failed()],
    ] {
        assert_eq!(read(tasks).await, (vec![200], b"abc".to_vec(), false));
    }
    assert_eq!(read(vec![head(103, None)]).await, (vec![103], vec![], false));
    assert_eq!(read(vec![]).await, (vec![], vec![], false));
    assert_eq!(read(vec![failed()]).await, (vec![], vec![], false));
}

#[tokio::test]
async fn informational_heads_come_before_the_answers_own() {
    let tasks = vec![head(103, None), head(102, None), head(200, Some(1)), body(b"a"), HttpTask::Done];
    assert_eq!(read(tasks).await, (vec![103, 102, 200], b"a".to_vec(), true));
}
