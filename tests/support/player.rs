//! Clients that decide when they read and when they leave: HTTP/1.1 and HTTP/2, in clear and over TLS, by hyper. A body whose
//! framing was not completed is an error here, as it is in a browser.

use super::patience;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

/// What a player speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Speech {
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::Http2, Self::Http2Tls];

    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }
}

/// The runtime all players of this process share.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// One connection. Dropping it closes the socket at once, whatever was being read.
pub struct Player {
    sender: Sender,
    driver: AbortHandle,
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Drop for Player {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Player {
    /// `receive_buffer`: of the socket; small, so that a player that stops reading is soon felt.
    pub async fn open(speech: Speech, address: SocketAddr, receive_buffer: Option<u32>) -> Result<Self, String> {
        let connected = async {
            let socket = TcpSocket::new_v4().map_err(|e| e.to_string())?;
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes).map_err(|e| e.to_string())?;
            }
            let stream = socket.connect(address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            if !speech.is_tls() {
                return Self::handshake(speech, stream).await;
            }
            let connector = tokio_rustls::TlsConnector::from(tls(speech.is_http2()));
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
            Self::handshake(speech, stream).await
        };
        tokio::time::timeout(patience(), connected).await.map_err(|_| "no connection in time".to_owned())?
    }

    async fn handshake<S>(speech: Speech, stream: S) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if speech.is_http2() {
            let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(64 << 10)
                .initial_connection_window_size(1 << 20)
                .handshake(io)
                .await
                .map_err(|e| e.to_string())?;
            let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
            return Ok(Self { sender: Sender::Http2(sender), driver });
        }
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender: Sender::Http1(sender), driver })
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.ask(Method::GET, path, &[]).await
    }

    /// Ends with the head of the answer; an error after patience.
    pub async fn ask(&mut self, method: Method, path: &str, fields: &[(&str, &str)]) -> Result<Answer, String> {
        let uri = match &self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("http://localhost{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.header("host", "localhost");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("a valid request");
        let response = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        let response = tokio::time::timeout(patience(), response).await.map_err(|_| "no head in time".to_owned())?;
        let (head, body) = response.map_err(|e| e.to_string())?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body, unread: Bytes::new() })
    }
}

/// A head, and a body that flows only while it is read. Dropping it gives up the rest.
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    body: Incoming,
    unread: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The next bytes; None: the body ended as its framing promised.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        if !self.unread.is_empty() {
            return Ok(Some(std::mem::take(&mut self.unread)));
        }
        loop {
            let frame = tokio::time::timeout(patience(), self.body.frame()).await;
            match frame.map_err(|_| "no bytes in time".to_owned())? {
                None => return Ok(None),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Exactly `bytes` bytes, or an error.
    pub async fn read(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        while all.len() < bytes {
            let Some(mut data) = self.next().await? else { return Err(format!("ended after {}", all.len())) };
            let part = data.split_to(data.len().min(bytes - all.len()));
            all.extend_from_slice(&part);
            self.unread = data;
        }
        Ok(all)
    }

    /// The rest of the body.
    pub async fn rest(&mut self) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        while let Some(data) = self.next().await? {
            all.extend_from_slice(&data);
        }
        Ok(all)
    }
}

/// Accepts every certificate, as `curl -k`.
pub(super) fn tls(http2: bool) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Arc::new(config)
}

#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
