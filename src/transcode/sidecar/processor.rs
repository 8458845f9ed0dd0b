//! What this processor can do, as far as encoders and filters choose their code by it: with the same ffmpeg, x264's pictures, scaled pictures
//! and AAC have other bytes where there are other instructions (measured: AVX-512, AVX2, SSE4.2 and SSE2 give two to three kinds of
//! bytes each). It is part of a film's build, and what another processor makes of the film has an entity-tag of its own.
//!
//! Invariant: it changes with the processor, not with the kernel.

use sha2::{Digest, Sha256};
use std::sync::OnceLock;

const FIELDS: [&str; 7] =
    ["vendor_id", "cpu family", "model", "CPU implementer", "CPU architecture", "CPU variant", "CPU part"];
const FLAG_FIELDS: [&str; 2] = ["flags", "Features"];
/// Kernels name ever more flags; these begin the names of instructions that count.
const FLAGS: [&str; 18] = [
    "mmx", "3dnow", "cmov", "sse", "ssse", "pni", "avx", "fma", "f16c", "xop", "bmi", "abm", "gfni", "neon", "asimd",
    "sve", "sme", "i8mm",
];

/// `cpu-1f2e3d4c`
pub fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| named(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()))
}

/// From what the kernel says of the first of them.
fn named(cpuinfo: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(std::env::consts::ARCH);
    let first = cpuinfo.lines().take_while(|line| !line.trim().is_empty());
    for (field, value) in first.filter_map(|line| line.split_once(':')) {
        let (field, value) = (field.trim(), value.trim());
        if FIELDS.contains(&field) {
            hash.update(format!("\n{field}:{value}"));
        } else if FLAG_FIELDS.contains(&field) {
            let mut flags: Vec<_> =
                value.split_whitespace().filter(|flag| FLAGS.iter().any(|begin| flag.starts_with(begin))).collect();
            flags.sort_unstable();
            hash.update(format!("\n{}", flags.join(" ")));
        }
    }
    format!("cpu-{}", hex::encode(&hash.finalize()[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kernel_is_the_same_processor_and_other_instructions_are_another() {
        let said = |flags: &str, rest: &str| {
            format!(
                "processor\t: 0\nvendor_id\t: X\ncpu family\t: 25\nmodel\t\t: 1\ncpu MHz\t\t: {rest}\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
            )
        };
        let one = named(&said("fpu sse2 avx2", "2000"));
        assert_eq!(named(&said("avx2 fpu sse2 ibrs_enhanced", "1999.5")), one);
        assert_ne!(named(&said("fpu sse2", "2000")), one);
        assert_ne!(named(&said("fpu sse2 avx2 avx512f", "2000")), one);
        assert_eq!(named("").len(), one.len());
        assert_eq!(name(), name());
    }
}
