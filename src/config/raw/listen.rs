//! `listen` as typed.

use super::OneOrMany;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `listen`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub struct RawListen {
    /// IP address and port (`0.0.0.0:8080`, `[::]:8080`), or a socket: `unix:/run/reelgate.sock`.
    #[schemars(extend("format" = "listen-address"))]
    pub address: String,
    /// Certificates, one or a list, chosen by SNI: `self-signed`, or files. Without it the listener speaks in clear.
    pub tls: OneOrMany<RawCertificate>,
    /// HTTP versions spoken: `http1`, `http2` (in clear: prior knowledge).
    pub protocols: Vec<RawProtocol>,
    /// HTTP/3 beside it, on UDP; needs `tls`.
    pub http3: bool,
    /// Port that `Alt-Svc` advertises and `redirect_https: true` leads to; default: the listener's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub alt_svc_port: Option<u16>,
    /// Every connection begins with a PROXY header, v1 or v2, sent by one of `trusted_proxies`.
    pub proxy_protocol: bool,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            address: String::new(),
            tls: OneOrMany::default(),
            protocols: vec![RawProtocol::Http1, RawProtocol::Http2],
            http3: false,
            alt_svc_port: None,
            proxy_protocol: false,
        }
    }
}

/// `listen[].protocols[]`
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawProtocol {
    Http1,
    Http2,
}

/// `listen[].tls`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawCertificate {
    Word(RawCertificateWord),
    Files(RawCertificateFiles),
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawCertificateWord {
    SelfSigned,
}

/// PEM files, read again when they change.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["cert", "key"]))]
pub struct RawCertificateFiles {
    /// PEM file of the certificate, the chain after it; read again when it changes.
    #[schemars(extend("format" = "non-empty"))]
    pub cert: String,
    /// PEM file of the private key.
    #[schemars(extend("format" = "non-empty"))]
    pub key: String,
}
