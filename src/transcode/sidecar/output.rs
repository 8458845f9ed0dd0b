//! What is made of a segment so far, and the one who adds to it.
//!
//! Invariant: what was given away once stands. A segment that is made again after a failure goes on where it was, if what comes
//! before is the same byte for byte; else it fails.

use super::failure::Failure;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// What a job has given so far.
#[derive(Debug, Default)]
pub struct Output {
    /// The encoder, and of a device's which run of it; None: it is no encoder's, or nobody has begun.
    pub made_by: Option<Arc<str>>,
    pub init: Option<Bytes>,
    pub fragments: Vec<Bytes>,
    pub end: Option<Result<(), Failure>>,
}

impl Output {
    /// Without the head.
    pub fn bytes(&self) -> u64 {
        self.fragments.iter().map(|fragment| fragment.len() as u64).sum()
    }
}

/// Where one attempt's output goes as it is made.
#[derive(Debug)]
pub struct Sink {
    output: watch::Sender<Output>,
    /// Fragments of this attempt so far.
    count: AtomicUsize,
}

impl Sink {
    pub fn new(output: &watch::Sender<Output>) -> Self {
        Self { output: output.clone(), count: AtomicUsize::new(0) }
    }

    /// Says who makes it, before anything comes. Another encoder's bytes are never continued: what nobody has got is forgotten, and
    /// where somebody has, this fails.
    pub fn begin(&self, made_by: &Arc<str>) {
        self.output.send_if_modified(|output| {
            if output.end.is_some() || output.made_by.as_ref() == Some(made_by) {
                return false;
            }
            if output.made_by.is_some() && !output.fragments.is_empty() {
                return differs(true, &mut output.end);
            }
            (output.made_by, output.init) = (Some(Arc::clone(made_by)), None);
            false
        });
    }

    /// The head; another one than was given before fails the job.
    pub fn init(&self, bytes: Vec<u8>) {
        self.output.send_if_modified(|output| match &output.init {
            Some(there) => differs(output.end.is_none() && *there != bytes, &mut output.end),
            None => {
                output.init = Some(Bytes::from(bytes));
                true
            }
        });
    }

    /// The next fragment; another one than was given before fails the job.
    pub fn fragment(&self, bytes: Vec<u8>) {
        let at = self.count.fetch_add(1, Ordering::Relaxed);
        self.output.send_if_modified(|output| match output.fragments.get(at) {
            _ if output.end.is_some() => false,
            Some(there) => differs(*there != bytes, &mut output.end),
            None => {
                output.fragments.push(Bytes::from(bytes));
                true
            }
        });
    }

    /// All of it is there, and checked: it need not wait for the encoder's own end.
    pub fn end(&self, how: Result<(), Failure>) {
        self.output.send_if_modified(|output| {
            let first = output.end.is_none();
            if first {
                output.end = Some(how);
            }
            first
        });
    }
}

fn differs(differs: bool, end: &mut Option<Result<(), Failure>>) -> bool {
    if differs {
        *end = Some(Err(Failure::Failed("made again, it came out otherwise".to_owned())));
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_goes_on_where_the_first_one_stopped() {
        let output = watch::Sender::new(Output::default());
        let attempt = |fragments: &[&str]| {
            let sink = Sink::new(&output);
            sink.init(b"init".to_vec());
            fragments.iter().for_each(|fragment| sink.fragment(fragment.as_bytes().to_vec()));
            sink
        };
        attempt(&["a", "b"]);
        attempt(&["a", "b", "c"]).end(Ok(()));
        attempt(&["a", "b", "c", "d"]);
        assert_eq!(output.borrow().fragments, ["a", "b", "c"]);
        assert_eq!(output.borrow().end, Some(Ok(())));
        assert_eq!(output.borrow().bytes(), 3);
    }

    #[test]
    fn bytes_of_two_encoders_never_mix() {
        let output = watch::Sender::new(Output::default());
        let began = |encoder: &str| {
            let sink = Sink::new(&output);
            sink.begin(&encoder.into());
            sink
        };
        began("h264_nvenc").init(b"its".to_vec());
        let sink = began("libx264");
        sink.init(b"another".to_vec());
        sink.fragment(b"a".to_vec());
        assert_eq!((output.borrow().made_by.as_deref(), output.borrow().end.is_none()), (Some("libx264"), true));
        assert_eq!(output.borrow().init.as_deref(), Some(&b"another"[..]));
        began("libx264").fragment(b"a".to_vec());
        assert!(output.borrow().end.is_none(), "the same one again");
        began("h264_nvenc");
        assert!(output.borrow().end.as_ref().is_some_and(Result::is_err), "too late");
    }

    #[test]
    fn bytes_of_two_attempts_never_mix() {
        let output = watch::Sender::new(Output::default());
        Sink::new(&output).fragment(b"a".to_vec());
        let sink = Sink::new(&output);
        sink.fragment(b"other".to_vec());
        sink.fragment(b"b".to_vec());
        sink.end(Ok(()));
        assert_eq!(output.borrow().fragments, ["a"]);
        assert!(output.borrow().end.as_ref().is_some_and(Result::is_err));
    }
}
