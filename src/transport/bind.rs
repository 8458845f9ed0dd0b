//! Sockets to listen on, and errors that say what to do about those that cannot be had.

use super::certificates::CertificateError;
use crate::config::ListenAddress;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// Connections the kernel completes before we accept them.
const BACKLOG: i32 = 1024;
/// Packets that wait in either direction, all clients together.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Owner and group: a web server in the same group may connect.
const UNIX_MODE: u32 = 0o660;

/// Why a listener could not be opened.
#[derive(Debug)]
pub struct BindError {
    pub address: ListenAddress,
    pub problem: BindProblem,
}

#[derive(Debug)]
pub enum BindProblem {
    InUse,
    Privileged,
    NotLocal,
    /// The path of a unix socket holds something else.
    NotASocket,
    Certificate(CertificateError),
    Tls(String),
    Io(io::Error),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match &self.problem {
            BindProblem::InUse => f.write_str(
                "another program listens there; stop it (`ss -ltunp` or `ss -lxp` shows it) or choose another address",
            ),
            BindProblem::Privileged => f.write_str(
                "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE (`AmbientCapabilities=` in a \
                 systemd unit), a unix socket needs a writable folder",
            ),
            BindProblem::NotLocal => f.write_str("this machine has no such address; 0.0.0.0 or [::] take all it has"),
            BindProblem::NotASocket => f.write_str("the file exists and is no socket; move it or choose another path"),
            BindProblem::Certificate(error) => error.fmt(f),
            BindProblem::Tls(error) => write!(f, "TLS cannot be set up: {error}"),
            BindProblem::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}

impl From<io::Error> for BindProblem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            io::ErrorKind::PermissionDenied => Self::Privileged,
            io::ErrorKind::AddrNotAvailable => Self::NotLocal,
            _ => Self::Io(error),
        }
    }
}

/// `only_v6`: IPv4 clients of `[::]` are served by another socket.
pub(super) fn tcp(address: SocketAddr, only_v6: bool) -> Result<TcpListener, BindProblem> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Accepted sockets inherit both (tcp(7)), which saves two system calls for each.
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// For QUIC, so many on one address. The buffers are asked for; the system gives what it allows (`net.core.rmem_max`).
pub(super) fn udp(address: SocketAddr, only_v6: bool, sockets: usize) -> Result<Vec<UdpSocket>, BindProblem> {
    let open = |shared: bool| -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        socket.set_reuse_port(shared)?;
        socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
        socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    // Sharing is with ourselves only: another process on this address would get a part of our packets.
    drop(open(false)?);
    Ok((0..sockets).map(|_| open(sockets > 1)).collect::<io::Result<_>>()?)
}

/// Takes the place of a socket file that nobody listens on.
pub(super) fn unix(path: &Path) -> Result<(UnixListener, UnixFile), BindProblem> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindProblem::NotASocket),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error.into()),
            _ => return Err(BindProblem::InUse),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = UnixFile::of(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_MODE))?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// The file of a unix socket: removed on drop, unless another process has put its own there.
#[derive(Debug)]
pub(super) struct UnixFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        let ours = |found: std::fs::Metadata| found.dev() == self.device && found.ino() == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // It may be gone already; then there is nothing to remove.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn accepted_sockets_inherit_what_is_set_on_the_listener() {
        let listener = tcp("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(socket2::SockRef::from(&accepted).keepalive().unwrap());
    }
}
