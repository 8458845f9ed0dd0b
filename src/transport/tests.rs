//! Real sockets, a tiny HTTP application, raw clients.

mod certificates;
mod harness;
mod lane;
mod limits;
mod protocols;
mod proxy;
mod shutdown;
