//! HTTP/3 as clients meet it that are not ours: aioquic (`tests/http3/client.py`, in a virtual environment that `tests/run` makes)
//! for every message and misuse, Chromium for a page. What is the same for all protocols is in the tables the players run:
//! `rfc9111`, `stalls`, `chaos`.

mod browser;
mod client;
mod drain;
mod limits;
mod messages;
mod network;
mod refusals;
mod resumption;
