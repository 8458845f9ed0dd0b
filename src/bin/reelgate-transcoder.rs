//! `reelgate-transcoder`: the sidecar that makes segments. Everything it does lives in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    reelgate::transcode::sidecar::main()
}
