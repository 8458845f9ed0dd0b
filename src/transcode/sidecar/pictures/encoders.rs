//! What pictures can be encoded as by the ffmpeg at hand: compiled in is not capable, so it is tried.

use super::super::super::protocol::Format;
use super::super::arguments::words;
use super::super::child::{Failure, Kill, LOOK_CPU_S_MAX, run_within};
use super::super::tools::Tools;
use crate::media::avif;
use bytes::Bytes;
use std::fs::File;

/// One way to encode a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureEncoder {
    pub format: Format,
    /// After the filters; before it, pictures are 4:2:0 with the matrix of BT.601.
    pub options: &'static [&'static str],
    /// Of the samples: JPEG and AVIF have all values, WebP those of video.
    pub full_range: bool,
}

/// Fragmented MP4, of which `media::avif` makes the file.
const AV1_IN_MP4: [&str; 4] = ["-movflags", "+frag_keyframe+empty_moov+default_base_moof+skip_trailer", "-f", "mp4"];

/// Every encoder known, the best format first, and of a format the better encoder. libaom takes 0.1 s of a core for a picture 1280 wide,
/// and a third fewer bytes than WebP; SVT-AV1 is for builds without it.
pub const KNOWN: [PictureEncoder; 4] = [
    PictureEncoder {
        format: Format::Avif,
        options: &["-c:v", "libaom-av1", "-usage", "allintra", "-still-picture", "1", "-cpu-used", "6", "-crf", "30"],
        full_range: true,
    },
    PictureEncoder {
        format: Format::Avif,
        options: &["-c:v", "libsvtav1", "-preset", "8", "-crf", "35", "-svtav1-params", "avif=1:lp=1"],
        full_range: true,
    },
    PictureEncoder {
        format: Format::Webp,
        options: &["-c:v", "libwebp", "-quality", "75", "-compression_level", "4"],
        full_range: false,
    },
    PictureEncoder { format: Format::Jpeg, options: &["-c:v", "mjpeg", "-q:v", "4"], full_range: true },
];

impl PictureEncoder {
    /// From the filters to the output: what is encoded says nothing of its origin.
    pub fn arguments(&self, output: &str) -> Vec<String> {
        let mut arguments = words(self.options);
        arguments.extend(words(&["-threads", "1", "-flags:v", "+bitexact", "-fflags", "+bitexact"]));
        match self.format {
            Format::Avif => arguments.extend(words(&AV1_IN_MP4)),
            Format::Webp | Format::Jpeg => arguments.extend(words(&["-f", "image2pipe"])),
        }
        arguments.push(output.to_owned());
        arguments
    }

    /// The last filters: what pictures of that matrix become for this encoder.
    pub fn colours(&self, matrix: &str) -> String {
        // `scale` knows one name for what has several.
        let matrix = if matrix == "bt709" { matrix } else { "bt601" };
        let (range, format) = match (self.full_range, self.format) {
            (true, Format::Jpeg) => ("pc", "yuvj420p"),
            (true, _) => ("pc", "yuv420p"),
            (false, _) => ("tv", "yuv420p"),
        };
        format!(
            "scale=in_color_matrix={matrix}:in_range=tv:out_color_matrix=smpte170m:out_range={range},format={format}"
        )
    }

    /// The picture, of what the run wrote. None: it wrote none.
    pub fn finish(&self, written: Vec<u8>) -> Option<Bytes> {
        let picture = if self.format == Format::Avif { avif::wrap(&written)? } else { written };
        self.format.begins(&picture).then(|| picture.into())
    }
}

/// The first working encoder of each format, the best format first. Tried once.
pub fn encoders(tools: &Tools, kill: &Kill) -> Result<Vec<PictureEncoder>, Failure> {
    // Held while they are tried: dozens may want to know at once.
    let mut pictures = tools.pictures.lock();
    if let Some(known) = pictures.as_ref() {
        return Ok(known.clone());
    }
    let mut working: Vec<PictureEncoder> = Vec::new();
    for encoder in KNOWN {
        if working.iter().all(|known| known.format != encoder.format) && works(tools, &encoder, kill)? {
            working.push(encoder);
        }
    }
    *pictures = Some(working.clone());
    Ok(working)
}

pub fn encoder(tools: &Tools, format: Format, kill: &Kill) -> Result<PictureEncoder, Failure> {
    let found = encoders(tools, kill)?.into_iter().find(|encoder| encoder.format == format);
    found.ok_or_else(|| Failure::Mismatch(format!("no {} is made here", format.media_type())))
}

/// Encodes one grey picture.
fn works(tools: &Tools, encoder: &PictureEncoder, kill: &Kill) -> Result<bool, Failure> {
    let zero = File::open("/dev/zero").map_err(|error| Failure::Machine(format!("/dev/zero: {error}")))?;
    let mut arguments =
        words(&["-nostdin", "-hide_banner", "-v", "error", "-f", "rawvideo", "-pixel_format", "yuv420p"]);
    arguments.extend(words(&["-video_size", "64x64", "-i", "file:/proc/self/fd/0", "-frames:v", "1"]));
    arguments.extend(words(&["-vf", &encoder.colours("bt709")]));
    arguments.extend(encoder.arguments("pipe:1"));
    let mut written = Vec::new();
    let ran = run_within(LOOK_CPU_S_MAX, &tools.ffmpeg, &arguments, zero, kill, |bytes| {
        written.extend_from_slice(bytes);
        Ok(())
    });
    match ran {
        Ok(()) => Ok(encoder.finish(written).is_some()),
        Err(Failure::Failed(_) | Failure::Device(..)) => Ok(false),
        Err(failure) => Err(failure),
    }
}
