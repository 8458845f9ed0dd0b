//! What kind of failure it was, told from what ffmpeg said: it ends with 1 whatever happened. Pure.
//!
//! The sentences were seen on machines without the hardware, or read in the sources of ffmpeg and in reports of others.

/// Why a run gave nothing, in words without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody waited any more, or what was more urgent took its place.
    Killed,
    /// What encodes failed, not the film.
    Device(Class, String),
    /// This machine failed, or stood still: it says nothing about the film.
    Machine(String),
    /// What was asked for is not what is here: another version of the film, another build of what encodes, no such segment.
    Mismatch(String),
    /// Everything else; most likely the film.
    Failed(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Killed => f.write_str("it was stopped"),
            Self::Device(_, reason) | Self::Machine(reason) | Self::Mismatch(reason) | Self::Failed(reason) => {
                f.write_str(reason)
            }
        }
    }
}

impl Failure {
    /// Whether another film might fail for the same reason.
    pub fn is_not_the_films(&self) -> bool {
        matches!(self, Self::Device(..) | Self::Machine(_))
    }

    /// Whether another attempt might go better.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Device(..) | Self::Machine(_) | Self::Failed(_))
    }
}

/// A failure of what encodes, not of the film.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// This ffmpeg was built without the encoder.
    NotCompiledIn,
    NoDriver,
    /// The driver is there, its video library is not: a container without the `video` capability.
    NoVideoLibrary,
    DriverTooOld,
    NoDevice,
    /// A device without an encoder.
    NoEncoder,
    /// An encoder that lacks what is asked for: codec, depth, size.
    Unsupported,
    /// All its sessions are taken: by others too, for the limit is the system's.
    SessionLimit,
    /// Its memory is.
    OutOfMemory,
}

impl Class {
    /// As in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotCompiledIn => "not_compiled_in",
            Self::NoDriver => "no_driver",
            Self::NoVideoLibrary => "no_video_library",
            Self::DriverTooOld => "driver_too_old",
            Self::NoDevice => "no_device",
            Self::NoEncoder => "no_encoder",
            Self::Unsupported => "unsupported",
            Self::SessionLimit => "session_limit",
            Self::OutOfMemory => "out_of_memory",
        }
    }

    /// It may be better in a moment, with less at once.
    pub fn is_busy(self) -> bool {
        matches!(self, Self::SessionLimit | Self::OutOfMemory)
    }
}

/// The first that is found counts: a more telling sentence stands before one that follows from it. `Cannot allocate memory` and
/// `Resource temporarily unavailable` are not among them: said by software, they are one film that wants more than a run may have,
/// and devices say theirs in words of their own.
const SENTENCES: [(&str, Class); 26] = [
    ("Unknown encoder '", Class::NotCompiledIn),
    ("Cannot load libcuda.so.1", Class::NoDriver),
    ("Cannot load libnvidia-encode.so.1", Class::NoVideoLibrary),
    ("Driver does not support the required nvenc API version", Class::DriverTooOld),
    ("The minimum required Nvidia driver for nvenc is", Class::NoVideoLibrary),
    ("CUDA_ERROR_NO_DEVICE", Class::NoDevice),
    ("CUDA_ERROR_INVALID_DEVICE", Class::NoDevice),
    ("OpenEncodeSessionEx failed: incompatible client key (21)", Class::SessionLimit),
    ("OpenEncodeSessionEx failed: out of memory (10)", Class::SessionLimit),
    ("CreateBitstreamBuffer failed: out of memory (10)", Class::OutOfMemory),
    ("CUDA_ERROR_OUT_OF_MEMORY", Class::OutOfMemory),
    ("OpenEncodeSessionEx failed: unsupported device (2)", Class::NoEncoder),
    ("No capable devices found", Class::Unsupported),
    ("Codec not supported", Class::Unsupported),
    ("10 bit encode not supported", Class::Unsupported),
    ("B frames as references are not supported", Class::Unsupported),
    ("No usable encoding profile found", Class::Unsupported),
    ("No usable encoding entrypoint found", Class::Unsupported),
    ("Error initializing an internal MFX session", Class::NoDevice),
    ("Error creating a MFX session", Class::NoDevice),
    ("No VA display found for device", Class::NoDevice),
    ("Failed to initialise VAAPI connection", Class::NoDevice),
    ("DLL libamfrt64.so", Class::NoDriver),
    ("AMF failed to initialise", Class::NoDevice),
    ("Device creation failed", Class::NoDevice),
    ("No device available for decoder", Class::NoDevice),
];

/// The class, and the line that tells it. None: nothing known; most likely the film.
pub fn classify(said: &str) -> Option<(Class, &str)> {
    // `Width 8192 exceeds 4096`: the size is the encoder's to refuse, and its words have numbers in them.
    let exceeds =
        |line: &&str| ["Width ", "Height "].iter().any(|side| line.contains(side)) && line.contains(" exceeds ");
    let line_with = |sentence: &str| said.lines().find(|line| line.contains(sentence));
    let told = SENTENCES.iter().find_map(|(sentence, class)| Some((*class, line_with(sentence)?)));
    let too_large = || said.lines().find(exceeds).map(|line| (Class::Unsupported, line));
    match told {
        // What it could do is said before that it cannot.
        Some((Class::Unsupported, _)) => too_large().or(told),
        told => told.or_else(too_large),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_the_films_fault_is_the_devices() {
        let text = || "why".to_owned();
        for (failure, not_the_films, may_pass) in [
            (Failure::Killed, false, false),
            (Failure::Device(Class::NoDriver, text()), true, true),
            (Failure::Machine(text()), true, true),
            (Failure::Mismatch(text()), false, false),
            (Failure::Failed(text()), false, true),
        ] {
            assert_eq!((failure.is_not_the_films(), failure.may_pass()), (not_the_films, may_pass), "{failure:?}");
        }
    }

    #[test]
    fn fixtures() {
        for (said, class) in [
            ("Unknown encoder 'av1_nvenc'", Class::NotCompiledIn),
            (
                "[h264_nvenc @ 0x55d0] Cannot load libcuda.so.1\nError initializing output stream 0:0 -- Error while opening encoder",
                Class::NoDriver,
            ),
            (
                "[h264_nvenc @ 0x5] Cannot load libnvidia-encode.so.1\n[h264_nvenc @ 0x5] The minimum required Nvidia driver for nvenc is 470.57.02 or newer",
                Class::NoVideoLibrary,
            ),
            (
                "[h264_nvenc @ 0x5] Driver does not support the required nvenc API version. Required: 12.1 Found: 11.1\n\
                 [h264_nvenc @ 0x5] The minimum required Nvidia driver for nvenc is 530.41.03 or newer",
                Class::DriverTooOld,
            ),
            (
                "[AVHWDeviceContext @ 0x5] cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device",
                Class::NoDevice,
            ),
            (
                "[h264_nvenc @ 0x5] OpenEncodeSessionEx failed: unsupported device (2): (no details)\n[h264_nvenc @ 0x5] No capable devices found",
                Class::NoEncoder,
            ),
            ("[hevc_nvenc @ 0x5] No capable devices found", Class::Unsupported),
            (
                "[h264_nvenc @ 0x5] OpenEncodeSessionEx failed: incompatible client key (21): (no details)\n[h264_nvenc @ 0x5] No capable devices found",
                Class::SessionLimit,
            ),
            ("[h264_nvenc @ 0x5] OpenEncodeSessionEx failed: out of memory (10): (no details)", Class::SessionLimit),
            ("[h264_nvenc @ 0x5] CreateBitstreamBuffer failed: out of memory (10): (no details)", Class::OutOfMemory),
            ("[h264_qsv @ 0x5] Error initializing an internal MFX session: unsupported (-3)", Class::NoDevice),
            ("[AVHWDeviceContext @ 0x5] No VA display found for device /dev/dri/renderD128.", Class::NoDevice),
            ("[hevc_nvenc @ 0x5] Codec not supported\n[hevc_nvenc @ 0x5] No capable devices found", Class::Unsupported),
            (
                "[hevc_nvenc @ 0x5] 10 bit encode not supported\n[hevc_nvenc @ 0x5] No capable devices found",
                Class::Unsupported,
            ),
            ("[h264_nvenc @ 0x5] B frames as references are not supported", Class::Unsupported),
            (
                "[h264_nvenc @ 0x5] Width 7680 exceeds 4096\n[h264_nvenc @ 0x5] No capable devices found",
                Class::Unsupported,
            ),
            (
                "[h264_vaapi @ 0x5] No usable encoding entrypoint found for profile VAProfileH264High (7).",
                Class::Unsupported,
            ),
            ("[AVHWDeviceContext @ 0x5] Error creating a MFX session: -9.", Class::NoDevice),
            ("[h264_amf @ 0x5] DLL libamfrt64.so.1 failed to open", Class::NoDriver),
        ] {
            assert_eq!(classify(said).map(|(class, _)| class), Some(class), "{said}");
        }
        for said in [
            "",
            "moov atom not found",
            "film: Invalid data found when processing input",
            "[h264 @ 0x5] Cannot allocate memory",
            "film: Resource temporarily unavailable",
        ] {
            assert_eq!(classify(said), None, "{said}");
        }
        let said = "[h264_nvenc @ 0x55d0] Cannot load libcuda.so.1\nError initializing output stream 0:0";
        assert_eq!(classify(said).unwrap().1, "[h264_nvenc @ 0x55d0] Cannot load libcuda.so.1", "not the last line");
        assert!(Class::SessionLimit.is_busy() && !Class::NoDriver.is_busy());
    }
}
