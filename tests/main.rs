//! Every integration test, in one binary: real sockets, the real `reelgate` process, nginx and a scriptable origin behind it,
//! raw sockets, curl, h2load and Chromium in front. `tests/run` installs what they need and runs them.
//!
//! A regression test is named after what it once broke. How the harness works: `support/mod.rs`.

mod support;

mod admin;
mod architecture;
mod background;
mod browser;
mod cache;
mod chaos;
mod cli;
mod compression;
mod conformance;
mod disk;
mod downgrade;
mod durable;
mod faults;
mod fuzz;
mod harness;
mod hostile_origin;
mod http3;
mod lane;
mod library;
mod listeners;
mod load;
mod logs;
mod page;
mod pictures;
mod poisoning;
mod proxying;
mod purge;
mod reload;
mod renditions;
mod replay;
mod rfc9111;
mod sidecar;
mod slices;
mod slow;
mod smuggling;
mod stalls;
mod stopping;
mod streams;
mod upstream;
