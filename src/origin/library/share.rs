//! Folders that come over a network: what others change there makes no event here (inotify(7)), so they are only scanned by interval.

use std::path::Path;

/// Types of file systems by `f_type` (statfs(2), linux/magic.h, and the file systems' own sources).
const SHARES: [(u32, &str); 12] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x786f_4256, "VirtualBox"),
];

/// What kind of share a folder lies on; None: a local file system, or none that tells.
pub fn kind(path: &Path) -> Option<&'static str> {
    // `f_type` is wider on some machines, with the sign of what was a 32-bit number.
    let magic = rustix::fs::statfs(path).ok()?.f_type as u32;
    SHARES.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_folder_is_no_share_and_a_missing_one_neither() {
        assert_eq!(kind(&std::env::temp_dir()), None);
        assert_eq!(kind(Path::new("/proc")), None);
        assert_eq!(kind(Path::new("/nowhere/at/all")), None);
    }
}
