//! Work for which nobody waits: one piece at a time, in steps of some seconds, each only when nobody waits for anything else.
//!
//! Whatever is to be done so is a [`Work`]; it finds its own next piece, and says when it is not the time for it.

use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

/// Where it is not the time.
const NOT_NOW_PAUSE: Duration = Duration::from_secs(1);
/// Where there is nothing to do.
const NOTHING_PAUSE: Duration = Duration::from_secs(5);
/// After a step, however long that took.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Worked,
    /// Somebody waits for something.
    NotNow,
    /// There is nothing to do.
    Nothing,
}

/// Something that is done in steps, none of which takes long.
#[async_trait::async_trait]
pub(super) trait Work: Send {
    async fn step(&mut self) -> Step;
}

/// Lets the first work that has something to do take a step, and pauses so long that steps have this share of the time; until told
/// that all ends.
pub(super) async fn keep_working(mut works: Vec<Box<dyn Work>>, share: f64, mut ends: watch::Receiver<bool>) {
    let work = async {
        loop {
            let started = Instant::now();
            let mut done = Step::Nothing;
            for work in &mut works {
                done = work.step().await;
                if done != Step::Nothing {
                    break;
                }
            }
            sleep(pause(done, started.elapsed(), share)).await;
        }
    };
    tokio::select! {
        () = work => {}
        // An error: who would tell is gone, which is the same.
        _ = ends.wait_for(|ends| *ends) => {}
    }
}

fn pause(done: Step, took: Duration, share: f64) -> Duration {
    match done {
        Step::NotNow => NOT_NOW_PAUSE,
        Step::Nothing => NOTHING_PAUSE,
        Step::Worked => took.mul_f64((1.0 / share - 1.0).clamp(0.0, 1000.0)).clamp(PAUSE_MIN, PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[test]
    fn steps_have_their_share_of_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(Step::Worked, second, 0.25), second * 3);
        assert_eq!(pause(Step::Worked, second, 1.0), PAUSE_MIN);
        assert_eq!(pause(Step::Worked, second * 100, 0.01), PAUSE_MAX);
    }

    struct Told(&'static str, Vec<Step>, Arc<Mutex<Vec<&'static str>>>);

    #[async_trait::async_trait]
    impl Work for Told {
        async fn step(&mut self) -> Step {
            self.2.lock().push(self.0);
            self.1.pop().unwrap_or(Step::Nothing)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_work_at_a_time_the_first_that_has_something_to_do_and_it_ends_when_told() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let works: Vec<Box<dyn Work>> = vec![
            Box::new(Told("a", vec![Step::Nothing, Step::NotNow, Step::Worked], Arc::clone(&order))),
            Box::new(Told("b", vec![Step::Worked], Arc::clone(&order))),
        ];
        let (end, ends) = watch::channel(false);
        let working = tokio::spawn(keep_working(works, 0.5, ends));
        sleep(NOT_NOW_PAUSE * 2).await;
        end.send_replace(true);
        working.await.unwrap();
        assert_eq!(order.lock()[..4], ["a", "a", "a", "b"]);
    }
}
