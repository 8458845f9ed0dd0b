//! The devices there are, as the kernel shows them: nodes of a folder, `/dev` in general. What they can do is for `survey` to find out.
//!
//! Invariant: messages and labels have names of devices (`nvidia0`, `renderD128`), never paths.

use super::encoders::{Encoder, Family};
use std::path::{Path, PathBuf};

/// Of each kind.
const NODES_MAX: usize = 16;
/// Sessions at once that NVENC is asked for: those of a GeForce have a limit for the whole system, which was 5 for years; others are
/// limited by what their engines can do.
const GEFORCE_SLOTS: usize = 4;
const DATACENTRE_SLOTS: usize = 8;
const RENDER_SLOTS: usize = 4;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nvidia,
    /// A GPU's rendering half, for VAAPI, QSV and AMF.
    Render,
}

/// A device that the kernel shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    /// `nvidia0`, `renderD128`.
    pub name: String,
    pub path: PathBuf,
    /// Of NVIDIA: CUDA's number for it, in the order of the bus.
    pub number: usize,
    /// Segments encoded at once, until it says that these are too many.
    pub slots: usize,
}

impl Node {
    /// Whether it is of the right kind; whether it works is another question.
    pub fn runs(&self, encoder: &Encoder) -> bool {
        match encoder.family {
            Family::Nvenc => self.kind == Kind::Nvidia,
            Family::Qsv | Family::Amf | Family::Vaapi => self.kind == Kind::Render,
            Family::Software => false,
        }
    }

    /// One that is not there, to hear what ffmpeg says of that.
    pub fn absent(family: Family) -> Self {
        let (kind, path) = match family {
            Family::Nvenc => (Kind::Nvidia, "/dev/nvidia0"),
            _ => (Kind::Render, "/dev/dri/renderD128"),
        };
        Self { kind, name: "-".to_owned(), path: path.into(), number: 0, slots: 0 }
    }
}

/// Nodes of `folder` and its `dri`; `slots`: for each, where somebody says so.
pub fn find(folder: &Path, slots: Option<usize>) -> Vec<Node> {
    let numbered = |folder: &Path, prefix: &str| {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let number = |name: &String| name.strip_prefix(prefix)?.parse::<u32>().ok();
        let mut found: Vec<_> = names.filter_map(|name| Some((number(&name)?, name))).collect();
        found.sort_unstable();
        found.truncate(NODES_MAX);
        found
    };
    let nvidia = numbered(folder, "nvidia").into_iter().enumerate().map(|(number, (_, name))| Node {
        kind: Kind::Nvidia,
        path: folder.join(&name),
        slots: slots.unwrap_or_else(|| nvidia_slots(Path::new("/proc/driver/nvidia/gpus"))),
        name,
        number,
    });
    let dri = folder.join("dri");
    let render = numbered(&dri, "renderD").into_iter().map(|(_, name)| Node {
        kind: Kind::Render,
        path: dri.join(&name),
        number: 0,
        slots: slots.unwrap_or(RENDER_SLOTS),
        name,
    });
    nvidia.chain(render).collect()
}

/// The fewest of what there is: which of them is which node is not said everywhere.
fn nvidia_slots(gpus: &Path) -> usize {
    let said = std::fs::read_dir(gpus).into_iter().flatten().flatten();
    let said = said.filter_map(|gpu| std::fs::read_to_string(gpu.path().join("information")).ok());
    let slots = said.map(|said| if is_for_games(&said) { GEFORCE_SLOTS } else { DATACENTRE_SLOTS });
    slots.min().unwrap_or(GEFORCE_SLOTS)
}

/// `Model:           NVIDIA GeForce RTX 3060`
fn is_for_games(information: &str) -> bool {
    let model = information.lines().find(|line| line.starts_with("Model")).unwrap_or_default();
    model.is_empty() || ["GeForce", "TITAN", "GTX", "MX"].iter().any(|word| model.contains(word))
}

#[cfg(test)]
mod tests {
    use super::super::encoders::named;
    use super::*;

    #[test]
    fn nodes_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dri")).unwrap();
        for name in ["nvidia3", "nvidia10", "nvidiactl", "nvidia-uvm", "null", "dri/renderD128", "dri/card0"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find(folder.path(), Some(2));
        let names: Vec<_> = found.iter().map(|node| (node.name.as_str(), node.number)).collect();
        // A container may have only the fourth; for CUDA it is the first.
        assert_eq!(names, [("nvidia3", 0), ("nvidia10", 1), ("renderD128", 0)]);
        let runs = |node: &Node, name: &str| node.runs(named(name).unwrap());
        assert!(runs(&found[0], "av1_nvenc") && !runs(&found[0], "h264_vaapi") && !runs(&found[0], "libx264"));
        assert!(runs(&found[2], "hevc_qsv") && !runs(&found[2], "h264_nvenc"));
        assert!(find(&folder.path().join("nowhere"), None).is_empty());
    }

    #[test]
    fn a_card_for_games_has_fewer_slots() {
        let gpus = tempfile::tempdir().unwrap();
        assert_eq!(nvidia_slots(gpus.path()), GEFORCE_SLOTS, "nothing is said");
        let told = |bus: &str, model: &str| {
            std::fs::create_dir(gpus.path().join(bus)).unwrap();
            std::fs::write(gpus.path().join(bus).join("information"), format!("Model: \t\t {model}\nIRQ: 7\n"))
                .unwrap();
        };
        told("0000:01:00.0", "NVIDIA L40S");
        assert_eq!(nvidia_slots(gpus.path()), DATACENTRE_SLOTS);
        told("0000:02:00.0", "NVIDIA GeForce RTX 3060");
        assert_eq!(nvidia_slots(gpus.path()), GEFORCE_SLOTS, "beside one");
    }
}
