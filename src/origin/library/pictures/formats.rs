//! What formats of pictures a build of the sidecar's tools makes: each build is asked once, by whoever is first.
//!
//! Invariants: who knows waits for nobody; who does not waits for one answer, and hears what it says, also that there was none; what was no
//! answer, or was given up by all who waited, is asked for anew.

use crate::media::pictures::Format;
use crate::transcode::Error;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use parking_lot::Mutex;
use std::sync::Arc;

/// Of different builds: those of a fleet.
const BUILDS_MAX: usize = 16;

/// The best first.
type Made = Result<Arc<[Format]>, Error>;

#[derive(Debug, Default)]
pub struct Formats(Mutex<Vec<(Arc<str>, State)>>);

#[derive(Debug)]
enum State {
    Asked(WeakShared<BoxFuture<'static, Made>>),
    Known(Arc<[Format]>),
}

impl Formats {
    pub async fn of<F>(&self, build: &str, ask: impl FnOnce() -> F) -> Made
    where
        F: Future<Output = Made> + Send + 'static,
    {
        let asked = {
            let mut all = self.0.lock();
            let there = all.iter().find(|(of, _)| **of == *build).map(|(_, state)| state);
            let under_way = match there {
                Some(State::Known(formats)) => return Ok(Arc::clone(formats)),
                Some(State::Asked(asked)) => asked.upgrade(),
                None => None,
            };
            under_way.unwrap_or_else(|| {
                let asked = ask().boxed().shared();
                if let Some(weak) = asked.downgrade() {
                    note(&mut all, build, State::Asked(weak));
                }
                asked
            })
        };
        let said = asked.await;
        if let Ok(formats) = &said {
            note(&mut self.0.lock(), build, State::Known(Arc::clone(formats)));
        }
        said
    }
}

fn note(all: &mut Vec<(Arc<str>, State)>, build: &str, state: State) {
    all.retain(|(of, _)| **of != *build);
    if all.len() >= BUILDS_MAX {
        all.remove(0);
    }
    all.push((build.into(), state));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_slow_answer_is_waited_for_once_and_holds_up_nobody_who_needs_another() {
        let (formats, asked) = (Arc::new(Formats::default()), Arc::new(AtomicUsize::new(0)));
        let known = || {
            asked.fetch_add(1, Ordering::Relaxed);
            async { Ok(Arc::from([Format::Jpeg])) }
        };
        assert_eq!(formats.of("known", known).await.unwrap()[..], [Format::Jpeg]);
        let (tell, told) = oneshot::channel::<Made>();
        let told = Arc::new(Mutex::new(Some(told)));
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let (formats, asked, told) = (Arc::clone(&formats), Arc::clone(&asked), Arc::clone(&told));
                tokio::spawn(async move {
                    let slow = || {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let told = told.lock().take().expect("one asks for all");
                        async { told.await.expect("an answer") }
                    };
                    formats.of("slow", slow).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(formats.of("known", || async { Err(Error::Busy) }).await.unwrap()[..], [Format::Jpeg]);
        assert_eq!(formats.of("other", || async { Ok(Arc::from([Format::Webp])) }).await.unwrap()[..], [Format::Webp]);
        tell.send(Err(Error::Away("it hangs".into()))).expect("somebody waits");
        for waited in waiting {
            assert_eq!(waited.await.unwrap(), Err(Error::Away("it hangs".into())), "none of them asks after the other");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(formats.of("slow", known).await.is_ok(), "no answer is not kept");
    }

    #[tokio::test]
    async fn what_all_have_given_up_is_asked_for_anew() {
        let formats = Formats::default();
        let never = formats.of("a", std::future::pending);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), never).await.is_err());
        assert!(formats.of("a", || async { Ok(Arc::from([Format::Jpeg])) }).await.is_ok());
    }
}
