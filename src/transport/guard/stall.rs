//! The deadline of a write that makes no progress.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How long a write has made no progress. The timer is made on the first stall and kept.
#[derive(Debug, Default)]
pub(super) struct Stall {
    pub(super) armed: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Ready once `limit` has passed since it was armed; arms it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.armed {
            self.armed = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}
