//! Where a picture of a title may lie. What is made of it: see `pictures`.

use super::catalog::{Kind, Title};
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Where a title's picture may lie, the most particular first: as Jellyfin, Kodi and Plex name them.
pub fn posters(title: &Title) -> Vec<PathBuf> {
    let (beside, own) = match title.kind {
        Kind::Hls => (title.path.as_path(), Vec::new()),
        Kind::File => {
            let stem = title.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (title.path.parent().unwrap_or(Path::new("")), vec![format!("{stem}-poster"), stem])
        }
    };
    let names = own.into_iter().chain(["poster", "folder", "cover"].map(str::to_owned));
    let files = names.flat_map(|name| EXTENSIONS.map(|extension| format!("{name}.{extension}")));
    files.map(|file| beside.join(file)).collect()
}
