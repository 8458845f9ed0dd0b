//! Which format an input has: by its name, else by its first bytes.

use super::{combined, csv};

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Reelgate's own access log.
    Json,
    /// The NCSA combined (or common) log of nginx and Apache.
    Combined,
    /// libCacheSim's binary trace, 24 bytes a record.
    #[value(name = "oracleGeneral", alias = "oraclegeneral")]
    OracleGeneral,
    /// time,key,size
    Csv,
}

impl Format {
    /// As `--format` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Combined => "combined",
            Self::OracleGeneral => "oracleGeneral",
            Self::Csv => "csv",
        }
    }

    /// From a file's name (its `.gz` or `.zst` taken off) and the beginning of its content, decompressed.
    pub fn guess(name: &str, head: &[u8]) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if name.ends_with(".csv") {
            return Some(Self::Csv);
        }
        if [".json", ".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending)) {
            return Some(Self::Json);
        }
        if name.contains("oraclegeneral") {
            return Some(Self::OracleGeneral);
        }
        let line = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
        if line.starts_with(b"{") {
            Some(Self::Json)
        } else if combined::parse(line).is_ok() {
            Some(Self::Combined)
        } else if csv::parse(line).is_ok() || csv::is_header(line) {
            Some(Self::Csv)
        } else if head.contains(&0) {
            Some(Self::OracleGeneral)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_tell() {
        let record = [1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        for (name, head, expected) in [
            ("trace.csv", &b""[..], Some(Format::Csv)),
            ("w44.oracleGeneral.bin", b"", Some(Format::OracleGeneral)),
            ("access.log", b"\n{\"time\":", Some(Format::Json)),
            ("access.log", b"h - - [t] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n", Some(Format::Combined)),
            ("-", b"time,key,size\n1,a,2\n", Some(Format::Csv)),
            ("-", b"1,a,2\n", Some(Format::Csv)),
            ("-", &record, Some(Format::OracleGeneral)),
            ("access.log", b"hello\n", None),
            ("access.log", b"", None),
        ] {
            assert_eq!(Format::guess(name, head), expected, "{name} {head:?}");
        }
    }
}
