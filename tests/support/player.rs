//! Clients that decide when they read and when they leave: HTTP/1.1 and HTTP/2, in clear and over TLS, by hyper; HTTP/3 by h3. A
//! body whose framing was not completed is an error here, as it is in a browser.

use super::patience;
use bytes::{Buf, Bytes};
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
    Http3,
}

impl Speech {
    pub const ALL: [Self; 5] = [Self::Http1, Self::Http1Tls, Self::Http2, Self::Http2Tls, Self::Http3];

    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls | Self::Http3)
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
    Http3(Http3),
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
            if speech == Speech::Http3 {
                let (http3, driver) = Http3::open(address).await?;
                return Ok(Self { sender: Sender::Http3(http3), driver });
            }
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
            Sender::Http3(_) => format!("https://localhost{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.header("host", "localhost");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("a valid request");
        if let Sender::Http3(http3) = &mut self.sender {
            let asked = tokio::time::timeout(patience(), http3.ask(request.map(drop))).await;
            return asked.map_err(|_| "no head in time".to_owned())?;
        }
        let response = async {
            match &mut self.sender {
                Sender::Http3(_) => unreachable!("asked above"),
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
        Ok(Answer { status: head.status, headers: head.headers, body: Body::Hyper(body), unread: Bytes::new() })
    }
}

/// A head, and a body that flows only while it is read. Dropping it gives up the rest.
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    body: Body,
    unread: Bytes,
}

enum Body {
    Hyper(Incoming),
    Http3(Box<Http3Stream>),
}

impl Body {
    /// The next bytes, perhaps none of them; None: the end.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match self {
            Self::Hyper(body) => match body.frame().await {
                None => Ok(None),
                Some(Err(error)) => Err(error.to_string()),
                Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            },
            Self::Http3(stream) => {
                let data = stream.0.recv_data().await.map_err(|e| e.to_string())?;
                Ok(data.map(|mut data| data.copy_to_bytes(data.remaining())))
            }
        }
    }
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
            let next = tokio::time::timeout(patience(), self.body.next()).await;
            match next.map_err(|_| "no bytes in time".to_owned())?? {
                None => return Ok(None),
                Some(data) if data.is_empty() => {}
                Some(data) => return Ok(Some(data)),
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

/// One HTTP/3 connection, by h3: not what the edge has. Its windows are small, so that one that stops reading is soon felt.
struct Http3 {
    sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    endpoint: quinn::Endpoint,
}

impl Drop for Http3 {
    fn drop(&mut self) {
        self.endpoint.close(0x100_u32.into(), b"");
    }
}

/// An answer's stream; dropping it gives up the rest.
struct Http3Stream(h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>);

impl Http3 {
    async fn open(address: SocketAddr) -> Result<(Self, AbortHandle), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).map_err(|e| text(&e))?;
        endpoint.set_default_client_config(http3_settings());
        let connection = endpoint.connect(address, "localhost").map_err(|e| text(&e))?.await.map_err(|e| text(&e))?;
        let opened = h3::client::new(h3_quinn::Connection::new(connection)).await;
        let (mut driver, sender) = opened.map_err(|e| text(&e))?;
        let driver = tokio::spawn(async move { drop(driver.wait_idle().await) }).abort_handle();
        Ok((Self { sender, endpoint }, driver))
    }

    async fn ask(&mut self, request: Request<()>) -> Result<Answer, String> {
        let mut stream = self.sender.send_request(request).await.map_err(|e| e.to_string())?;
        stream.finish().await.map_err(|e| e.to_string())?;
        let (head, ()) = stream.recv_response().await.map_err(|e| e.to_string())?.into_parts();
        let body = Body::Http3(Box::new(Http3Stream(stream)));
        Ok(Answer { status: head.status, headers: head.headers, body, unread: Bytes::new() })
    }
}

/// For quinn: any certificate, TLS 1.3, windows as those of the HTTP/2 players.
pub fn http3_settings() -> quinn::ClientConfig {
    http3_settings_with(|_| {})
}

/// The same, with other settings of TLS.
pub fn http3_settings_with(change: impl FnOnce(&mut rustls::ClientConfig)) -> quinn::ClientConfig {
    let mut tls = rustls::ClientConfig::clone(&tls(false));
    tls.alpn_protocols = vec![b"h3".to_vec()];
    change(&mut tls);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3 is there");
    let mut settings = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((64_u32 << 10).into()).receive_window((1_u32 << 20).into());
    settings.transport_config(Arc::new(transport));
    settings
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
