//! Files of subtitles beside a film: `Film.srt`, `Film.en.srt`, `Film.pt-BR.forced.vtt`.
//!
//! Invariants: looked for in the film's own folder alone, opened only beneath the library's; a bounded number of files, of bounded
//! length; names become labels and hashes, never paths.

use super::super::catalog::Title;
use crate::media::language;
use crate::source::{Folder, Stamp};
use crate::transcode::protocol::TextFormat;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of one film.
const FILES_MAX: usize = 32;
/// Bytes of one: a long film has a tenth of a megabyte. The sidecar refuses more.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file of subtitles beside a film.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtitleFile {
    pub name: OsString,
    pub stamp: Stamp,
    pub format: TextFormat,
    /// As the name says; may be empty.
    pub language: String,
    pub title: String,
    pub forced: bool,
    pub hearing_impaired: bool,
}

impl SubtitleFile {
    /// What the name of a file beside the film `stem` says; None: it is not the film's.
    pub fn named(stem: &[u8], name: &[u8], stamp: Stamp) -> Option<Self> {
        let (words, format) = words_of(stem, name)?;
        let mut file = Self {
            name: OsString::from_vec(name.to_vec()),
            stamp,
            format,
            language: String::new(),
            title: String::new(),
            forced: false,
            hearing_impaired: false,
        };
        for word in String::from_utf8_lossy(words).split('.').filter(|word| !word.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "forced" => file.forced = true,
                "sdh" | "cc" => file.hearing_impaired = true,
                // Hearing impaired, but Hindi where no language was said.
                "hi" if !file.language.is_empty() => file.hearing_impaired = true,
                "default" => {}
                _ if file.language.is_empty() && is_language(word) => file.language = word.to_owned(),
                _ if file.title.is_empty() => file.title = word.to_owned(),
                _ => file.title = format!("{} {word}", file.title),
            }
        }
        Some(file)
    }

    /// The name of its rendition.
    pub fn rendition(&self) -> String {
        format!("text-file-{}", hex::encode(&Sha256::digest(self.name.as_bytes())[..4]))
    }

    /// Beneath the folder of the film.
    pub fn path(&self, film: &Path) -> PathBuf {
        film.with_file_name(&self.name)
    }
}

/// Of those known by name only: `Cut` would be one of the others.
fn is_language(word: &str) -> bool {
    language::tag(word).is_some_and(|tag| language::name(&tag).is_some())
}

/// What stands between a film's name and the extension of a file of its subtitles.
fn words_of<'a>(stem: &[u8], name: &'a [u8]) -> Option<(&'a [u8], TextFormat)> {
    let middle = name.strip_prefix(stem)?.strip_prefix(b".")?;
    let (words, extension) = match middle.iter().rposition(|byte| *byte == b'.') {
        Some(dot) => (&middle[..dot], &middle[dot + 1..]),
        None => (&middle[..0], middle),
    };
    match extension.to_ascii_lowercase().as_slice() {
        b"srt" => Some((words, TextFormat::SubRip)),
        b"vtt" => Some((words, TextFormat::WebVtt)),
        _ => None,
    }
}

/// Those of a title, by name; none where its folder cannot be read.
pub async fn beside(title: &Title) -> Vec<SubtitleFile> {
    let (folder, film) = (Arc::clone(&title.folder), title.path.clone());
    tokio::task::spawn_blocking(move || find(&folder, &film)).await.unwrap_or_default()
}

fn find(folder: &Folder, film: &Path) -> Vec<SubtitleFile> {
    let Some(stem) = film.file_stem().map(OsStr::as_bytes) else { return Vec::new() };
    let mut names = folder.names(film.parent().unwrap_or(Path::new(""))).unwrap_or_default();
    names.retain(|name| words_of(stem, name.as_bytes()).is_some());
    names.sort();
    let files = names.iter().take(FILES_MAX).filter_map(|name| {
        let file = folder.open(&film.with_file_name(name)).ok()?;
        let stamp = Stamp::of(&file).ok().filter(|stamp| stamp.bytes <= FILE_BYTES_MAX)?;
        SubtitleFile::named(stem, name.as_bytes(), stamp)
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_name_says_language_and_kind() {
        let stamp = Stamp { inode: 1, modified_s: 2, modified_ns: 3, bytes: 4 };
        let said = |name: &str| {
            let file = SubtitleFile::named(b"A film.2020", name.as_bytes(), stamp)?;
            Some((file.language, file.title, file.forced, file.hearing_impaired))
        };
        let of =
            |language: &str, title: &str, forced, impaired| Some((language.into(), title.into(), forced, impaired));
        assert_eq!(said("A film.2020.srt"), of("", "", false, false));
        assert_eq!(said("A film.2020.en.srt"), of("en", "", false, false));
        assert_eq!(said("A film.2020.pt-BR.forced.VTT"), of("pt-BR", "", true, false));
        assert_eq!(said("A film.2020.eng.hi.default.srt"), of("eng", "", false, true));
        assert_eq!(said("A film.2020.hi.srt"), of("hi", "", false, false));
        assert_eq!(said("A film.2020.Director.Cut.sdh.srt"), of("", "Director Cut", false, true));
        for name in
            ["A film.srt", "A film.2020.txt", "A film.2020", "A film.2020srt", "Another.srt", "A film.2020.en.idx"]
        {
            assert_eq!(said(name), None, "{name}");
        }
    }

    #[test]
    fn files_beside_a_film_are_found_and_links_do_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("films/sub");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(root.path().join("secret.srt"), "secret").unwrap();
        for name in ["Film.mkv", "Film.fr.srt", "Film.srt", "Other.srt"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        std::fs::write(folder.join("Film.long.srt"), vec![b'x'; FILE_BYTES_MAX as usize + 1]).unwrap();
        std::fs::create_dir(folder.join("Film.de.srt")).unwrap();
        symlink(root.path().join("secret.srt"), folder.join("Film.es.srt")).unwrap();
        let films = Folder::new(&root.path().join("films"));
        let names: Vec<_> = find(&films, Path::new("sub/Film.mkv")).into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["Film.fr.srt", "Film.srt"]);
        assert!(find(&films, Path::new("../Film.mkv")).is_empty());
    }
}
