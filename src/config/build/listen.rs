//! `listen`: addresses taken once, certificates, protocols.

use super::super::built::{Certificate, Listen, ListenAddress, Protocols};
use super::super::formats;
use super::super::raw::{RawCertificate, RawProtocol};
use super::Builder;
use std::path::PathBuf;

impl Builder<'_> {
    pub(super) fn listen(&mut self) -> Vec<Listen> {
        let mut out: Vec<Listen> = Vec::new();
        for (index, raw) in self.raw.listen.iter().enumerate() {
            let at = |key: &str| format!("listen[{index}].{key}");
            let tls = raw.tls.0.iter().map(certificate).collect::<Vec<_>>();
            let speaks = |protocol| raw.protocols.contains(&protocol);
            let protocols = Protocols { http1: speaks(RawProtocol::Http1), http2: speaks(RawProtocol::Http2) };
            if raw.protocols.is_empty() && !self.places.was_reported(&at("protocols")) {
                self.error(&at("protocols"), "this listener speaks nothing", Some("allowed: http1, http2"));
            }
            if raw.http3 && self.places.is_absent(&at("tls")) {
                self.error(&at("http3"), "HTTP/3 needs `tls`", Some("add tls: self-signed, or {cert, key}"));
            }
            if raw.http3 && raw.proxy_protocol {
                let advice = "QUIC has no PROXY header; use a listener of its own";
                self.error(&at("http3"), "HTTP/3 cannot go with `proxy_protocol`", Some(advice));
            }
            let Ok(address) = formats::listen_address(&raw.address) else { continue };
            let tcp = matches!(address, ListenAddress::Tcp(_));
            if raw.proxy_protocol && tcp && self.places.is_absent("trusted_proxies") {
                let advice = "name the load balancers that send it in trusted_proxies";
                self.error(&at("proxy_protocol"), "nobody is trusted to send PROXY headers", Some(advice));
            }
            if raw.http3 && !tcp {
                self.error(&at("http3"), "HTTP/3 needs an IP address", Some("a unix socket carries no UDP"));
            }
            let any_port = matches!(&address, ListenAddress::Tcp(address) if address.port() == 0);
            if !any_port && out.iter().any(|other| other.address == address) {
                self.error(&at("address"), "this address is given twice", Some("one entry for each address"));
            }
            out.push(Listen {
                address,
                tls,
                protocols,
                http3: raw.http3,
                alt_svc_port: raw.alt_svc_port,
                proxy_protocol: raw.proxy_protocol,
            });
        }
        out
    }
}

fn certificate(raw: &RawCertificate) -> Certificate {
    match raw {
        RawCertificate::Word(_) => Certificate::SelfSigned,
        RawCertificate::Files(files) => {
            Certificate::Files { cert: PathBuf::from(&files.cert), key: PathBuf::from(&files.key) }
        }
    }
}
