//! Files in memory, without a name: what is made or has come in, for ffmpeg to read. Nothing of it reaches a disk.

use super::child::Failure;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Seek, Write};

/// A file of these parts, one after another, read from its beginning.
pub fn file<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<File, Failure> {
    write(parts).map_err(|error| Failure::Machine(format!("a file in memory: {error}")))
}

fn write<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> io::Result<File> {
    let mut file = File::from(memfd_create("reelgate", MemfdFlags::CLOEXEC)?);
    for part in parts {
        file.write_all(part)?;
    }
    file.rewind()?;
    Ok(file)
}
