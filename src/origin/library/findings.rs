//! What the sidecar found out about films, kept in the index: each finding as the JSON it said, under a name, for one version of the
//! file.
//!
//! Invariant: a kept finding is used only if it is for this version of the file, was found by the programs that are there now, wherever they ran, and says
//! neither less nor more than would be said today; a refusal is asked for again after a while. Otherwise it is found out again.

use super::facts::refusal_is_old;
use super::index::{Index, Stored, now_s};
use crate::source::Stamp;
use crate::transcode::Client;
use crate::transcode::protocol::programs;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What a film is, or why the sidecar refused to say.
pub type Finding<T> = Result<T, String>;

/// Asks the sidecar, and keeps what it said.
#[derive(Debug)]
pub struct Findings {
    client: Arc<Client>,
    index: Arc<Index>,
    /// Of the sidecar's tools, as far as it has said.
    build: Mutex<Option<Arc<str>>>,
}

impl Findings {
    pub fn new(client: Arc<Client>, index: Arc<Index>) -> Self {
        Self { client, index, build: Mutex::default() }
    }

    /// What the sidecar's tools are; None: it does not say now, nor did before.
    pub async fn build(&self) -> Option<Arc<str>> {
        if let Some(in_force) = self.client.build_in_force() {
            return Some(in_force);
        }
        let known = self.build.lock().clone();
        if known.is_some() {
            return known;
        }
        let said: Arc<str> = self.client.build().await.ok()?.into();
        Some(Arc::clone(self.build.lock().get_or_insert(said)))
    }

    /// An answer has said what they are now.
    pub fn build_is(&self, build: &str) {
        *self.build.lock() = Some(build.into());
    }

    /// They may be others by now: who wants to know asks again.
    pub fn forget_build(&self) {
        *self.build.lock() = None;
    }

    /// What was kept under a name, if it still holds.
    pub async fn find<T>(&self, title: &str, what: &'static str, stamp: &Stamp) -> Option<Finding<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let (index, title, stamp) = (Arc::clone(&self.index), title.to_owned(), *stamp);
        let stored = tokio::task::spawn_blocking(move || index.found(&title, what, &stamp)).await.ok()??;
        if self.build().await.is_some_and(|build| programs(&build) != programs(&stored.build)) {
            return None;
        }
        match stored.said {
            Ok(text) => read(&text).map(Ok),
            Err(reason) => (!refusal_is_old(stored.at_s, now_s())).then_some(Err(reason)),
        }
    }

    /// Keeps a finding.
    pub async fn keep<T: Serialize>(&self, title: &str, what: &'static str, stamp: &Stamp, finding: &Finding<T>) {
        let said = match finding {
            Ok(found) => match serde_json::to_string(found) {
                Ok(text) => Ok(text),
                // It would be found out again, no more.
                Err(_) => return,
            },
            Err(reason) => Err(reason.clone()),
        };
        let build = self.build().await.unwrap_or_default().to_string();
        let stored = Stored { said, build, at_s: now_s() };
        let (index, title, stamp) = (Arc::clone(&self.index), title.to_owned(), *stamp);
        // What becomes of it the index says itself.
        let _ = tokio::task::spawn_blocking(move || index.keep(&title, what, &stamp, &stored)).await;
    }
}

/// What was kept, if it decodes, and encodes to the same again.
fn read<T: Serialize + DeserializeOwned>(text: &str) -> Option<T> {
    let found: T = serde_json::from_str(text).ok()?;
    let said: serde_json::Value = serde_json::from_str(text).ok()?;
    (serde_json::to_value(&found).ok()? == said).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Said {
        width: u32,
        #[serde(default)]
        audio: Option<String>,
    }

    #[test]
    fn what_was_kept_by_another_reelgate_is_found_out_again() {
        let said = Said { width: 64, audio: None };
        assert_eq!(read(&serde_json::to_string(&said).unwrap()), Some(said));
        for text in [r#"{"width":64,"audio":null,"later":1}"#, r#"{"width":64}"#, r#"{"width":"64"}"#, "{}", "", "nul"]
        {
            assert_eq!(read::<Said>(text), None, "{text}");
        }
    }
}
