//! Where the log touches the disk: a narrow trait, so that tests can make it fail, and the real files behind it.
//!
//! Files are for their owner only: they hold what origins answered. Plain `pread` and `pwrite`: io_uring's gains are small
//! for requests of 256 KiB, its bugs were not. Knows no records.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

const SUFFIX: &str = ".segment";
const LOCK: &str = "lock";

/// One open segment file.
pub(super) trait Device: fmt::Debug + Send + Sync {
    /// Fills `buffer`, or fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Makes `buffer`, which is empty and has the capacity, `bytes` long, or fails.
    fn read_into(&self, buffer: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        buffer.resize(bytes, 0);
        self.read_at(buffer, offset)
    }
    /// The same file for reads that never wait for the disk: what the system has not in memory is `WouldBlock`. None: it cannot tell.
    fn at_once(&self) -> Option<Arc<dyn Device>> {
        None
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Until what was written would survive a power loss.
    fn sync(&self) -> io::Result<()>;
    /// Makes the file this long, with room on the disk for every byte.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// The folder of segment files.
pub(super) trait Folder: fmt::Debug + Send + Sync {
    /// The segments there, oldest first, with the bytes of their files.
    fn list(&self) -> io::Result<Vec<(u32, u64)>>;
    /// An empty file for a segment; what was there under that number is lost.
    fn create(&self, sequence: u32) -> io::Result<Arc<dyn Device>>;
    fn open(&self, sequence: u32) -> io::Result<Arc<dyn Device>>;
    /// Readers that have the file open read on.
    fn remove(&self, sequence: u32) -> io::Result<()>;
}

#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
}

impl Files {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn file(&self, sequence: u32) -> PathBuf {
        self.path.join(format!("{sequence:010}{SUFFIX}"))
    }
}

impl Folder for Files {
    fn list(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let sequence = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|name| name.parse().ok());
            if let Some(sequence) = sequence {
                found.push((sequence, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn create(&self, sequence: u32) -> io::Result<Arc<dyn Device>> {
        let path = self.file(sequence);
        // Never written over in place: a reader may still have it open.
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Its name must be as durable as what will be synced into it.
        File::open(&self.path)?.sync_all()?;
        Ok(Arc::new(SegmentFile(Arc::new(file))))
    }

    fn open(&self, sequence: u32) -> io::Result<Arc<dyn Device>> {
        let file = open_regular(OpenOptions::new().read(true).write(true), &self.file(sequence))?;
        Ok(Arc::new(SegmentFile(Arc::new(file))))
    }

    fn remove(&self, sequence: u32) -> io::Result<()> {
        match std::fs::remove_file(self.file(sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Opens a file of ours: what somebody put there in its place, a link to elsewhere, a pipe, a device, is neither followed, nor waited
/// for, nor written to.
fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[derive(Debug)]
struct SegmentFile(Arc<File>);

impl Device for SegmentFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn at_once(&self) -> Option<Arc<dyn Device>> {
        Some(Arc::new(AtOnce(Arc::clone(&self.0))))
    }

    /// Without zeroing it first: that would cost as much as half the copy.
    fn read_into(&self, buffer: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        while buffer.len() < bytes {
            let place = offset + buffer.len() as u64;
            match pread(&*self.0, spare_capacity(buffer), place) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        buffer.truncate(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&*self.0, FallocateFlags::empty(), 0, bytes) {
            // Some file systems cannot reserve; then a full disk shows when it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.0.set_len(bytes),
            done => Ok(done?),
        }
    }
}

/// See [`Device::at_once`].
#[derive(Debug)]
struct AtOnce(Arc<File>);

impl Device for AtOnce {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut [IoSliceMut::new(&mut buffer[filled..])];
            match preadv2(&*self.0, rest, offset + filled as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => {}
                // Some file systems cannot say whether they would wait.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The folder is ours while this lives: a second process on it would tear the log apart. The file also counts how often the log
/// was opened.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Makes the folder where it is not there, and takes it.
    ///
    /// # Errors
    /// `WouldBlock` where another process has it; else what the disk says.
    pub(super) fn take(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = open_regular(options, &folder.join(LOCK))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file })
    }

    /// The number of this opening: larger than the last one's and than `at_least`, and remembered durably.
    pub(super) fn next_epoch(&mut self, at_least: u64) -> io::Result<u64> {
        let mut text = String::new();
        // A damaged number is as good as none: the segments know theirs too.
        if (&self.file).take(32).read_to_string(&mut text).is_err() {
            text.clear();
        }
        let epoch = text.trim().parse::<u64>().unwrap_or(0).max(at_least) + 1;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.set_len(0)?;
        writeln!(self.file, "{epoch}")?;
        self.file.sync_data()?;
        Ok(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_at_once_gives_what_any_read_gives_or_would_block() {
        let folder = tempfile::tempdir().unwrap();
        let device = Files::new(folder.path()).create(1).unwrap();
        let written: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        device.write_at(&written, 4096).unwrap();
        let at_once = device.at_once().expect("a file has such reads");
        let mut read = vec![0; 200_001];
        match at_once.read_at(&mut read, 4096 + 7) {
            Ok(()) => assert!(read == written[7..7 + read.len()]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "this file system cannot say"),
        }
        let beyond = at_once.read_at(&mut read, 4096 + 200_000).unwrap_err().kind();
        assert!(matches!(beyond, io::ErrorKind::UnexpectedEof | io::ErrorKind::WouldBlock), "{beyond}");
        assert!(at_once.write_at(&[1], 0).is_err() && at_once.set_len(1).is_err());
    }
}
