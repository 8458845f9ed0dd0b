"""An HTTP/3 client for the tests, by aioquic: it does what a list of steps says and tells what came of it.

Standard input: {"address": [ip, port], "patience_s": n, "connect": {…}, "steps": [{"do": …}, …]}
Standard output: {"streams": [{"status", "fields", "body", "length", "sha256", "ended", "reset", "stopped", "trailers"}, …],
                  "closed": {"code"} or null, "goaway": [ids], "retried": bool, "largest": datagram, "failed": text or null,
                  "resumed", "early_sent", "early_accepted", "answered_early": bool}

Steps: send (a request), raw (bytes on a stream: a number, "new" or "uni"), reset, stop, head, bytes, end (wait for the answer's
head, for so many bytes of it, for its end), closed, goaway (wait for it), stall (no more credit), freeze (neither read nor
acknowledge), move (another port), sleep_ms (for what leaves no trace).
With "resume" in "connect", a connection before this one gets a session ticket for it; with "early" the first step goes out as early data
(0-RTT), whatever the ticket allows.
Streams are named by their place in the list, in the order they were opened.
"""

import asyncio
import hashlib
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.tls import Epoch

BODY_SHOWN_MAX = 64 * 1024


class Stream:
    def __init__(self):
        self.status = None
        self.fields = []
        self.trailers = None
        self.shown = bytearray()
        self.length = 0
        self.hash = hashlib.sha256()
        self.ended = False
        self.reset = None
        self.stopped = None

    def done(self):
        return self.ended or self.reset is not None

    def tell(self):
        return {
            "status": self.status,
            "fields": self.fields,
            "trailers": self.trailers,
            "body": self.shown.decode("latin-1"),
            "length": self.length,
            "sha256": self.hash.hexdigest(),
            "ended": self.ended,
            "reset": self.reset,
            "stopped": self.stopped,
        }


def integer(data):
    """The integer at the start, and the rest; None: it is not whole."""
    if not data or len(data) < (length := 1 << (data[0] >> 6)):
        return None
    return int.from_bytes(data[:length], "big") & ((1 << (8 * length - 2)) - 1), data[length:]


def goaways(data):
    """The ids of the GOAWAY frames on a control stream: aioquic passes them over."""
    ids = []
    if not (kind := integer(data)) or kind[0] != 0:
        return ids
    rest = kind[1]
    while (frame := integer(rest)) and (length := integer(frame[1])) and len(length[1]) >= length[0]:
        content, rest = length[1][: length[0]], length[1][length[0] :]
        if frame[0] == 0x7:
            ids.append(integer(content)[0])
    return ids


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.goaway = []
        self.servers = {}
        self.http = H3Connection(self._quic)
        self.by_id = {}
        self.streams = []
        self.closed_with = None
        self.frozen = False
        self.retried = False
        self.largest = 0
        self.handshake = None
        self.early_sent = False
        self.answered_early = False
        self.changed = asyncio.Condition()

    def datagram_received(self, data, addr):
        if self.frozen:
            return
        if data and data[0] & 0x80 and (data[0] & 0x30) >> 4 == 3:
            self.retried = True
        self.largest = max(self.largest, len(data))
        super().datagram_received(data, addr)

    def transmit(self):
        if self.streams and not self.handshake and (keys := getattr(self._quic, "_cryptos", {}).get(Epoch.ZERO_RTT)):
            self.early_sent = self.early_sent or keys.send.is_valid()
        super().transmit()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.closed_with = {"code": event.error_code}
        elif isinstance(event, HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, StreamReset) and event.stream_id in self.by_id:
            self.by_id[event.stream_id].reset = event.error_code
        elif isinstance(event, StopSendingReceived) and event.stream_id in self.by_id:
            self.by_id[event.stream_id].stopped = event.error_code
        elif isinstance(event, StreamDataReceived) and event.stream_id % 4 == 3:
            data = self.servers[event.stream_id] = self.servers.get(event.stream_id, b"") + event.data
            self.goaway = goaways(data) or self.goaway
        for answer in self.http.handle_event(event):
            stream = self.by_id.get(answer.stream_id)
            if stream is None:
                continue
            if isinstance(answer, HeadersReceived):
                self.answered_early = self.answered_early or self.handshake is None
                fields = [[name.decode(), value.decode("latin-1")] for name, value in answer.headers]
                if stream.status is None:
                    stream.status = int(fields[0][1])
                    stream.fields = fields[1:]
                else:
                    stream.trailers = fields
            elif isinstance(answer, DataReceived):
                stream.length += len(answer.data)
                stream.hash.update(answer.data)
                stream.shown += answer.data[: BODY_SHOWN_MAX - len(stream.shown)]
            if answer.stream_ended:
                stream.ended = True
        asyncio.ensure_future(self.note())

    async def note(self):
        async with self.changed:
            self.changed.notify_all()

    async def until(self, what, patience):
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(what), patience)

    def open(self):
        stream_id = self._quic.get_next_available_stream_id()
        stream = Stream()
        stream.id = stream_id
        self.by_id[stream_id] = stream
        self.streams.append(stream)
        return stream

    async def step(self, step, patience):
        do = step["do"]
        which = step.get("stream", len(self.streams) - 1)
        stream = self.streams[which] if isinstance(which, int) and which < len(self.streams) and which >= 0 else None
        if do == "send":
            stream = self.open()
            body = step.get("body", "").encode("latin-1") + bytes(i % 251 for i in range(251)) * (step.get("size", 0) // 251 + 1)
            body = body[: len(step.get("body", "")) + step.get("size", 0)]
            trailers = step.get("trailers")
            end = step.get("end", True)
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in step["fields"]]
            self.http.send_headers(stream.id, fields, end and not body and not trailers)
            if body:
                self.http.send_data(stream.id, body, end and not trailers)
            if trailers:
                fields = [(name.encode(), value.encode()) for name, value in trailers]
                self.http.send_headers(stream.id, fields, end)
            self.transmit()
        elif do == "raw":
            if which == "uni":
                stream_id = self._quic.get_next_available_stream_id(is_unidirectional=True)
            elif which == "control":
                stream_id = self.http._local_control_stream_id
            elif which == "encoder":
                stream_id = self.http._local_encoder_stream_id
            elif which == "decoder":
                stream_id = self.http._local_decoder_stream_id
            else:
                stream_id = (self.open() if which == "new" else stream).id
            self._quic.send_stream_data(stream_id, bytes.fromhex(step["hex"]), step.get("end", False))
            self.transmit()
        elif do == "reset":
            self._quic.reset_stream(stream.id, step.get("code", 0x10C))
            self.transmit()
        elif do == "stop":
            self._quic.stop_stream(stream.id, step.get("code", 0x10C))
            self.transmit()
        elif do == "head":
            await self.until(lambda: stream.status is not None or stream.done() or self.closed_with, patience)
        elif do == "bytes":
            await self.until(lambda: stream.length >= step["bytes"] or stream.done() or self.closed_with, patience)
        elif do == "end":
            await self.until(lambda: stream.done() or self.closed_with, patience)
        elif do == "ends":
            await self.until(lambda: all(s.done() for s in self.streams) or self.closed_with, patience)
        elif do == "closed":
            await self.until(lambda: self.closed_with, patience)
        elif do == "goaway":
            await self.until(lambda: self.goaway or self.closed_with, patience)
        elif do == "stall":
            self._quic._write_stream_limits = lambda *args, **kwargs: None
            self._quic._write_connection_limits = lambda *args, **kwargs: None
        elif do == "freeze":
            self.frozen = True
        elif do == "move":
            await self.move()
        elif do == "sleep_ms":
            await asyncio.sleep(step["ms"] / 1000)
        else:
            raise ValueError(f"unknown step {do}")

    async def move(self):
        """The same connection from another port, as after a change of network."""
        outer = self

        class Relay(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                outer.datagram_received(data, addr)

        old = self._transport
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Relay, local_addr=("::" if old.get_extra_info("sockname")[0].count(":") else "0.0.0.0", 0), family=old.get_extra_info("socket").family)
        self._transport = transport
        old.abort()
        self._quic.change_connection_id()
        self.transmit()


async def ticket(host, port, configuration, patience):
    """Of a connection that does nothing else."""
    got = asyncio.get_running_loop().create_future()

    def take(ticket):
        if not got.done():
            got.set_result(ticket)

    async with connect(host, port, configuration=configuration, session_ticket_handler=take):
        return await asyncio.wait_for(got, patience)


async def main(program):
    settings = program.get("connect", {})
    configuration = QuicConfiguration(alpn_protocols=settings.get("alpn", H3_ALPN), is_client=True, verify_mode=ssl.CERT_NONE)
    configuration.server_name = settings.get("name", "localhost")
    configuration.max_data = settings.get("max_data", 16 << 20)
    configuration.max_stream_data = settings.get("max_stream_data", 8 << 20)
    configuration.idle_timeout = settings.get("idle_s", 60.0)
    if "cafile" in settings:
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(settings["cafile"])
    patience = program["patience_s"]
    host, port = program["address"]
    told = {"streams": [], "closed": None, "goaway": [], "retried": False, "failed": None}
    client = None
    configuration.idle_timeout = min(configuration.idle_timeout, patience)
    try:
        if settings.get("resume") or settings.get("early"):
            configuration.session_ticket = await ticket(host, port, configuration, patience)
        if settings.get("early"):
            # What a server that takes early data would have written there.
            configuration.session_ticket.max_early_data_size = 0xFFFFFFFF
        early = settings.get("early", False)
        async with connect(host, port, configuration=configuration, create_protocol=Client, wait_connected=not early) as client:
            for step in program["steps"]:
                await client.step(step, patience)
            # What ends the connection here is us.
            told["closed"] = client.closed_with
    except (Exception, asyncio.CancelledError) as error:
        told["failed"] = f"{type(error).__name__}: {error}"
        told["closed"] = client and client.closed_with
    if client:
        told["streams"] = [stream.tell() for stream in client.streams]
        told["goaway"] = client.goaway
        told["retried"] = client.retried
        told["largest"] = client.largest
        told["resumed"] = bool(client.handshake and client.handshake.session_resumed)
        told["early_sent"] = client.early_sent
        told["early_accepted"] = bool(client.handshake and client.handshake.early_data_accepted)
        told["answered_early"] = client.answered_early
    print(json.dumps(told))


asyncio.run(main(json.load(sys.stdin)))
