//! A folder of films, and the one way to open a file in it: strictly beneath, decided by the kernel at the moment of opening, so
//! that no link swapped in between a check and its use leads out.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// How often `openat2` is tried again when a rename nearby made it unsure (openat2(2): EAGAIN).
const TRIES_MAX: usize = 8;
/// Names read of a folder.
const NAMES_MAX: usize = 20_000;

/// One entry of `folders`, as configured: it may itself be a link, or not exist yet.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        // Without `.` and double slashes, so that two spellings give the same title ids.
        Self { path: path.components().collect() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file beneath the folder for reading. Links may lead on, but not out. Everything that is not there, not
    /// beneath or not a regular file is [`io::ErrorKind::NotFound`]; other errors are the system's.
    pub fn open(&self, relative: &Path) -> io::Result<File> {
        // Opened by path each time: a share mounted anew is found again.
        let root = rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let opened = match open_beneath(&root, relative, FILE) {
            // An old kernel, or a container's filter that knows no openat2.
            Err(Errno::NOSYS | Errno::PERM) => open_without_links(&root, relative, FILE),
            result => result,
        };
        let file = File::from(opened.map_err(|error| match error {
            Errno::XDEV | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::NAMETOOLONG => not_found(),
            error => error.into(),
        })?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_found()) }
    }

    /// Names in a folder beneath, as they come; at most [`NAMES_MAX`]. Errors are those of [`Self::open`].
    pub fn names(&self, relative: &Path) -> io::Result<Vec<OsString>> {
        let root = rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let opened = match open_beneath(&root, relative, directory) {
            Err(Errno::NOSYS | Errno::PERM) if relative == Path::new(".") => {
                rustix::fs::openat(&root, ".", directory, Mode::empty())
            }
            Err(Errno::NOSYS | Errno::PERM) => open_without_links(&root, relative, directory),
            result => result,
        };
        let entries = rustix::fs::Dir::new(opened.map_err(|_| not_found())?)?;
        let names = entries.take(NAMES_MAX).filter_map(|entry| {
            let name = entry.ok()?.file_name().to_bytes().to_vec();
            (name != b"." && name != b"..").then(|| OsString::from_vec(name))
        });
        Ok(names.collect())
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// For a file: not to hang on a pipe that lies among the films.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open_beneath(root: &OwnedFd, relative: &Path, how: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES_MAX {
        result = rustix::fs::openat2(root, relative, how, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

/// The same without `openat2`: step by step, following no link at all.
fn open_without_links(root: &OwnedFd, relative: &Path, how: OFlags) -> Result<OwnedFd, Errno> {
    let mut names = Vec::new();
    for component in relative.components() {
        let Component::Normal(name) = component else { return Err(Errno::XDEV) };
        names.push(name);
    }
    let (last, parents) = names.split_last().ok_or(Errno::ISDIR)?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parent = root.try_clone().map_err(|_| Errno::MFILE)?;
    for name in parents {
        parent = rustix::fs::openat(&parent, *name, directory, Mode::empty())?;
    }
    rustix::fs::openat(&parent, *last, how | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn films() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        let films = directory.path().join("films");
        fs::create_dir_all(films.join("sub")).unwrap();
        fs::write(directory.path().join("secret.mp4"), "secret").unwrap();
        fs::write(films.join("sub/film.mp4"), "film").unwrap();
        symlink("../secret.mp4", films.join("out.mp4")).unwrap();
        symlink(directory.path().join("secret.mp4"), films.join("absolute.mp4")).unwrap();
        symlink("..", films.join("up")).unwrap();
        symlink("sub/film.mp4", films.join("inside.mp4")).unwrap();
        symlink("round.mp4", films.join("round.mp4")).unwrap();
        symlink("/proc/self/root", films.join("magic")).unwrap();
        (directory, Folder::new(&films))
    }

    #[test]
    fn files_beneath_open_and_links_may_lead_on() {
        let (_directory, films) = films();
        for name in ["sub/film.mp4", "inside.mp4"] {
            assert_eq!(io::read_to_string(films.open(Path::new(name)).unwrap()).unwrap(), "film");
        }
    }

    #[test]
    fn nothing_leads_out() {
        let (directory, films) = films();
        let secret = directory.path().join("secret.mp4");
        let names =
            ["out.mp4", "absolute.mp4", "up/secret.mp4", "../secret.mp4", "round.mp4", "magic/etc/passwd", "sub", ""];
        for name in names.map(Path::new).into_iter().chain([secret.as_path()]) {
            assert_eq!(films.open(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{}", name.display());
        }
    }

    #[test]
    fn without_openat2_no_link_is_followed() {
        let (_directory, films) = films();
        let root = File::open(films.path()).unwrap().into();
        assert!(open_without_links(&root, Path::new("sub/film.mp4"), FILE).is_ok());
        for name in [
            "out.mp4",
            "absolute.mp4",
            "up/secret.mp4",
            "../secret.mp4",
            "inside.mp4",
            "/etc/passwd",
            "magic/etc/passwd",
            "",
        ] {
            assert!(open_without_links(&root, Path::new(name), FILE).is_err(), "{name}");
        }
    }

    #[test]
    fn a_pipe_among_the_films_neither_hangs_nor_opens() {
        let (_directory, films) = films();
        let pipe = films.path().join("pipe.mp4");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(films.open(Path::new("pipe.mp4")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
