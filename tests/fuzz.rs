//! Random and changed inputs: at a running edge here, in one process where the code is (`h3_streams`). How: `fuzz/README.md`.

mod h3_format;
mod http1;
mod http3;
mod mutate;
