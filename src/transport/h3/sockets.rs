//! The UDP sockets of one listener: one for each endpoint, all on one address (`SO_REUSEPORT`), so that several threads read.
//!
//! The kernel gives the packets of a client to one of the sockets, by the client's address: a client that moves (RFC 9000, section 9) may
//! come out at another one than before. So each connection ID says at which socket its connection is, and a socket hands over what
//! belongs to another. Handing over costs a copy; only clients that moved, and who guesses, cost it.
//!
//! Invariant: what waits to be taken is bounded; what is beyond that is lost, as in a full socket.

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// More threads than this read no faster.
pub const SOCKETS_MAX: usize = 16;
/// Packets that wait at one socket.
const WAITING_MAX: usize = 1024;
pub const CONNECTION_ID_BYTES: usize = 8;

/// What all sockets of a listener share.
#[derive(Debug)]
pub struct Group(Vec<Mutex<Waiting>>);

/// What others received for one socket.
#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<(RecvMeta, Box<[u8]>)>,
    waker: Option<Waker>,
    closed: bool,
}

impl Group {
    /// Of so many sockets, [`SOCKETS_MAX`] at most.
    pub fn new(sockets: usize) -> Arc<Self> {
        Arc::new(Self((0..sockets.clamp(1, SOCKETS_MAX)).map(|_| Mutex::default()).collect()))
    }

    pub fn sockets(&self) -> usize {
        self.0.len()
    }

    /// The socket that the ID of a short header (RFC 9000, section 17.3.1) names. Packets with a long header stay where they are: a
    /// client does not move before its handshake is done, and has chosen the ID itself in the first ones.
    fn owner(&self, packet: &[u8]) -> Option<usize> {
        let (first, id) = packet.split_first()?;
        (first & 0x80 == 0 && id.len() >= CONNECTION_ID_BYTES).then(|| usize::from(id[0]) % self.sockets())
    }

    fn hand_over(&self, to: usize, meta: RecvMeta, packet: &[u8]) {
        let mut waiting = self.0[to].lock();
        if !waiting.closed && waiting.packets.len() < WAITING_MAX {
            waiting.packets.push_back((meta, packet.into()));
            if let Some(waker) = waiting.waker.take() {
                drop(waiting);
                waker.wake();
            }
        }
    }
}

/// Connection IDs of one socket, which nobody can guess or tell apart by more than that. (quinn's own carry a mark of their process,
/// and it would ignore those of one before it instead of resetting them.)
pub struct Ids {
    pub random: SystemRandom,
    pub socket: usize,
    pub sockets: usize,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        if self.random.fill(&mut id).is_err() {
            fastrand::fill(&mut id);
        }
        // A random one of the bytes that name this socket.
        let turns = 256 / self.sockets;
        id[0] = (usize::from(id[0]) % turns * self.sockets + self.socket) as u8;
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// One of the sockets, for its endpoint.
#[derive(Debug)]
pub struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    group: Arc<Group>,
    number: usize,
    /// What others received goes first every other time, so that neither it nor what comes here can shut the other out.
    others_first: AtomicBool,
}

impl Socket {
    pub fn new(inner: Arc<dyn AsyncUdpSocket>, group: Arc<Group>, number: usize) -> Self {
        Self { inner, group, number, others_first: AtomicBool::new(true) }
    }

    /// What others received for this one, as many packets as there are buffers. None: nothing, and `context` is woken when there is.
    fn take(&self, context: &Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Option<usize> {
        let mut waiting = self.group.0[self.number].lock();
        let count = waiting.packets.len().min(buffers.len()).min(meta.len());
        if count == 0 {
            match &mut waiting.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return None;
        }
        for ((told, packet), (buffer, meta)) in waiting.packets.drain(..count).zip(buffers.iter_mut().zip(meta)) {
            let length = packet.len().min(buffer.len());
            buffer[..length].copy_from_slice(&packet[..length]);
            *meta = RecvMeta { len: length, stride: length, ..told };
        }
        Some(count)
    }

    /// Hands over the packets of one buffer that are not ours, and moves the others together.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (length, stride) = (meta.len, meta.stride.max(1));
        let (mut at, mut kept) = (0, 0);
        while at < length {
            let end = (at + stride).min(length);
            match self.group.owner(&buffer[at..end]) {
                Some(other) if other != self.number => {
                    let told = RecvMeta { len: end - at, stride: end - at, ..*meta };
                    self.group.hand_over(other, told, &buffer[at..end]);
                }
                _ => {
                    if kept < at {
                        buffer.copy_within(at..end, kept);
                    }
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.group.sockets() == 1 {
            return self.inner.poll_recv(context, buffers, meta);
        }
        let others_first = self.others_first.fetch_xor(true, Ordering::Relaxed);
        if others_first && let Some(count) = self.take(context, buffers, meta) {
            return Poll::Ready(Ok(count));
        }
        let received = self.inner.poll_recv(context, buffers, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()).take(count) {
                self.sort(buffer, meta);
            }
        }
        match received {
            Poll::Pending if !others_first => {
                self.take(context, buffers, meta).map_or(Poll::Pending, |count| Poll::Ready(Ok(count)))
            }
            received => received,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut waiting = self.group.0[self.number].lock();
        *waiting = Waiting { closed: true, ..Waiting::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::Runtime;
    use std::future::poll_fn;
    use std::net::UdpSocket;

    fn ids(socket: usize, sockets: usize) -> Ids {
        Ids { random: SystemRandom::new(), socket, sockets }
    }

    /// A packet of a connection at this socket.
    fn packet(socket: usize, sockets: usize, mark: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![mark; length];
        packet[0] = 0x40;
        packet[1..9].copy_from_slice(&ids(socket, sockets).generate_cid());
        packet
    }

    #[test]
    fn ids_name_their_socket_and_are_otherwise_random() {
        for sockets in 1..=SOCKETS_MAX {
            let group = Group::new(sockets);
            for socket in 0..sockets {
                let made: Vec<_> = (0..50).map(|_| packet(socket, sockets, 0, 20)).collect();
                assert!(made.iter().all(|packet| group.owner(packet) == Some(socket)));
                assert!(made.iter().any(|packet| packet[1] != made[0][1]), "more than one byte names a socket");
            }
        }
        assert_eq!(Group::new(4).owner(&[0xc0; 30]), None, "a long header stays where it is");
        assert_eq!(Group::new(4).owner(&[0x40; 8]), None, "too short for an ID");
    }

    async fn receive(socket: &Socket) -> Vec<Vec<u8>> {
        let mut buffers = [[0; 4096]; 4];
        let mut meta = [RecvMeta::default(); 4];
        let count = poll_fn(|context| {
            let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            socket.poll_recv(context, &mut slices, &mut meta)
        });
        let count = count.await.unwrap();
        let split = |(buffer, meta): (&[u8; 4096], &RecvMeta)| {
            buffer[..meta.len].chunks(meta.stride.max(1)).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        buffers.iter().zip(&meta).take(count).flat_map(split).collect()
    }

    fn two() -> (Vec<Socket>, Vec<SocketAddr>) {
        let group = Group::new(2);
        let open = |number| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            let inner = quinn::TokioRuntime.wrap_udp_socket(socket).unwrap();
            (Socket::new(inner, Arc::clone(&group), number), address)
        };
        (0..2).map(open).unzip()
    }

    #[tokio::test]
    async fn a_packet_that_came_to_the_wrong_socket_is_handed_over() {
        let (sockets, addresses) = two();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (own, other) = (packet(0, 2, 7, 100), packet(1, 2, 9, 120));
        client.send_to(&other, addresses[0]).unwrap();
        client.send_to(&own, addresses[0]).unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(20), receive(&sockets[1]));
        let reads = async {
            let mut got = Vec::new();
            while got.is_empty() {
                got = receive(&sockets[0]).await;
            }
            got
        };
        let (theirs, ours) = tokio::join!(waits, reads);
        assert_eq!((theirs.unwrap(), ours), (vec![other], vec![own]));
    }

    #[tokio::test]
    async fn packets_of_one_buffer_are_told_apart() {
        let (sockets, _) = two();
        let packets = [packet(0, 2, 1, 50), packet(1, 2, 2, 50), packet(0, 2, 3, 50), packet(1, 2, 4, 30)];
        let mut buffer = packets.concat();
        let mut meta = RecvMeta { len: buffer.len(), stride: 50, ..RecvMeta::default() };
        sockets[0].sort(&mut buffer, &mut meta);
        assert_eq!(buffer[..meta.len], [&packets[0][..], &packets[2]].concat());
        assert_eq!(receive(&sockets[1]).await, [&packets[1][..], &packets[3]]);
    }

    #[tokio::test]
    async fn what_nobody_takes_is_bounded() {
        let (mut sockets, _) = two();
        let group = Arc::clone(&sockets[0].group);
        let packet = packet(1, 2, 0, 30);
        for _ in 0..WAITING_MAX + 10 {
            group.hand_over(1, RecvMeta::default(), &packet);
        }
        assert_eq!(group.0[1].lock().packets.len(), WAITING_MAX);
        sockets.pop();
        group.hand_over(1, RecvMeta::default(), &packet);
        assert!(group.0[1].lock().packets.is_empty(), "its endpoint is gone");
    }
}
