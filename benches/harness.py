"""The servers that the benches measure, how they are loaded, and how their CPU is counted.

Every server is pinned to CPU 0, load to CPU 1. CPU is what the kernel counted for every thread of a server (schedstat), also of threads that
ended meanwhile. An origin is an nginx that counts what it sends. Peers run from Debian's packages with the settings that mattered when
they were tried: nginx `aio off`, `proxy_buffers 16 64k`, lock on; Varnish streams (its default), one pool; Traffic Server reads while it writes,
one net thread, fragments of 1 MiB. Nothing is installed, nothing is left running.
"""

import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"1KiB": 1 << 10, "64KiB": 64 << 10, "1MiB": 1 << 20, "4MiB": 4 << 20}
# h2load's connections and, for HTTP/2, streams on each.
TRANSPORTS = {"h1": ("--h1", 32, 1), "h1-tls": ("--h1", 32, 1), "h2-tls": ("", 8, 8)}
SERVER_CPU, CLIENT_CPU = "0", "1"
PACKAGES = {
    "nginx": "nginx-light", "varnishd": "varnish", "traffic_server": "trafficserver", "h2load": "nghttp2-client",
    "openssl": "openssl", "taskset": "util-linux", "unshare": "util-linux",
}  # fmt: skip


def fail(message):
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def need(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        packages = " ".join(sorted({PACKAGES[tool] for tool in missing}))
        fail(f"not installed: {', '.join(missing)}. apt-get install {packages} (and stop what that starts)")
    if len(os.sched_getaffinity(0)) < 2:
        fail("two CPUs are needed: one for the server, one for the client")


def release_binary(given):
    """`--binary`, or what cargo builds."""
    if given:
        return given.resolve()
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "reelgate"], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / "reelgate"


def free_port():
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """A pinned process tree that serves clear and TLS ports."""

    def __init__(self, name, command, clear, secure, environment=None):
        self.name, self.ports = name, {"h1": clear, "h1-tls": secure, "h2-tls": secure}
        self.counted = {}
        pinned = ["taskset", "-c", SERVER_CPU, *map(str, command)]
        # A pipe that nobody reads would stop a server that says much.
        self.said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            pinned, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said, env={**os.environ, **(environment or {})}
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", clear), timeout=1).close()
                break
            except OSError:
                gone = self.process.poll() is not None
                if gone or time.monotonic() > deadline:
                    self.stop()
                    self.said.seek(0)
                    fail(f"{name} {'did not start' if gone else 'does not listen'}: {self.said.read()[-2000:]}")
                time.sleep(0.05)
        # Some pin their threads anew when they start.
        for pid in self.pids():
            subprocess.run(["taskset", "-a", "-c", "-p", SERVER_CPU, str(pid)], capture_output=True)

    def url(self, transport, size):
        scheme = "http" if transport == "h1" else "https"
        return f"{scheme}://127.0.0.1:{self.ports[transport]}/{size}"

    def pids(self):
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    queue += map(int, children.read_text().split())
                except OSError:
                    continue
        return found

    def cpu_seconds(self):
        """Of all threads there ever were, as far as they were seen."""
        for pid in self.pids():
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    self.counted[thread] = max(self.counted.get(thread, 0), int(thread.read_text().split()[0]))
                except (OSError, IndexError):
                    continue
        return sum(self.counted.values()) / 1e9

    def pss_mb(self):
        total = 0
        for pid in self.pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss: +(\d+)", rollup, re.M).group(1))
            except (OSError, AttributeError):
                continue
        return total / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def nginx(name, folder, body, clear, secure, sendfile=True):
    folder.mkdir()
    temp = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;\n"
        "events { worker_connections 4096; }\n"
        f"http {{\n  access_log off; sendfile {'on' if sendfile else 'off'}; tcp_nopush off; tcp_nodelay on; aio off;\n"
        "  keepalive_requests 1000000000; keepalive_timeout 75s; http2_max_requests 1000000000;\n"
        f"  open_file_cache max=1000 inactive=60s;\n{temp}{body}\n}}\n"
    )
    return Server(name, ["nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"], clear, secure)


class Origin:
    """An nginx that serves the files of a folder, `/slow/` at 2 MiB/s a connection, and counts what it sends."""

    def __init__(self, folder, files):
        self.port, self.log = free_port(), folder / "sent.log"
        secure = free_port()
        body = f"""  log_format sent '$bytes_sent $uri';
  server {{ listen 127.0.0.1:{self.port}; root {files}; access_log {self.log} sent; add_header Cache-Control "max-age=86400";
    location /slow/ {{ alias {files}/; limit_rate 2m; }} }}"""
        self.server = nginx("origin", folder, body, self.port, secure)

    def sent(self):
        """`(requests, bytes)` so far."""
        time.sleep(0.3)  # nginx writes its log when a request has ended
        lines = self.log.read_text().splitlines()
        return len(lines), sum(int(line.split()[0]) for line in lines)


def nginx_cache(name, folder, origin_port, cert, key, sendfile=True, slice_bytes=None):
    clear, secure = free_port(), free_port()
    sliced = f"slice {slice_bytes}; proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1d;" if slice_bytes else ""
    body = f"""  proxy_cache_path {folder}/cache keys_zone=hits:20m max_size=6g inactive=1h;
  server {{
    listen 127.0.0.1:{clear};
    listen 127.0.0.1:{secure} ssl http2;
    ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://127.0.0.1:{origin_port}; proxy_http_version 1.1; proxy_set_header Connection ""; {sliced}
      proxy_cache hits; proxy_cache_lock on; proxy_cache_key $uri$is_args$args{"$slice_range" if slice_bytes else ""}; proxy_buffers 16 64k;
      add_header Cache-Status $upstream_cache_status;
    }}
  }}"""
    return nginx(name, folder, body, clear, secure, sendfile)


def varnish(folder, origin_port, storage):
    """HTTP/1.1 without TLS: it has none."""
    folder.mkdir()
    port = free_port()
    (folder / "default.vcl").write_text(f'vcl 4.1;\nbackend default {{ .host = "127.0.0.1"; .port = "{origin_port}"; }}\n')
    command = ["varnishd", "-F", "-j", "none", "-n", folder / "work", "-a", f"127.0.0.1:{port}", "-f", folder / "default.vcl"]
    command += ["-s", storage, "-p", "thread_pools=1", "-p", "thread_pool_min=250"]
    return Server("varnish", command, port, None)


def traffic_server(folder, origin_port, cert, key, ram_bytes):
    etc = folder / "etc"
    for part in (etc, folder / "cache", folder / "log", folder / "run"):
        part.mkdir(parents=True)
    clear, secure = free_port(), free_port()
    layout = {
        "prefix": "/usr", "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin", "sysconfdir": etc, "datadir": etc,
        "includedir": "/usr/include", "libdir": "/usr/lib/trafficserver", "libexecdir": "/usr/lib/trafficserver/modules",
        "localstatedir": folder, "runtimedir": folder / "run", "logdir": folder / "log", "cachedir": folder / "cache",
    }  # fmt: skip
    (folder / "runroot.yaml").write_text("".join(f"{name}: {path}\n" for name, path in layout.items()))
    records = {
        "http.server_ports": f"STRING {clear} {secure}:ssl", "admin.user_id": "STRING #-1", "crash_log_helper": "STRING NULL",
        "exec_thread.autoconfig": "INT 0", "exec_thread.limit": "INT 1", "exec_thread.affinity": "INT 0", "task_threads": "INT 1",
        "log.logging_enabled": "INT 0", "cache.ram_cache.size": f"INT {ram_bytes}", "cache.ram_cache_cutoff": "INT 67108864",
        "cache.target_fragment_size": "INT 1048576", "cache.enable_read_while_writer": "INT 1",
        "http.cache.open_write_fail_action": "INT 5", "http.background_fill_completed_threshold": "FLOAT 0.0",
        "http.insert_response_via_str": "INT 0", "http.cache.required_headers": "INT 0", "url_remap.remap_required": "INT 1",
        "ssl.server.cert.path": f"STRING {cert.parent}", "ssl.server.private_key.path": f"STRING {key.parent}",
    }  # fmt: skip
    (etc / "records.config").write_text("".join(f"CONFIG proxy.config.{name} {value}\n" for name, value in records.items()))
    (etc / "remap.config").write_text(f"map / http://127.0.0.1:{origin_port}/\n")
    (etc / "storage.config").write_text(f"{folder}/cache 6G\n")
    (etc / "ssl_multicert.config").write_text(f"dest_ip=* ssl_cert_name={cert.name} ssl_key_name={key.name}\n")
    (etc / "ip_allow.yaml").write_text("ip_allow: [{ apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL }]\n")
    (etc / "plugin.config").touch()
    return Server("trafficserver", ["traffic_server", f"--run-root={folder}/runroot.yaml"], clear, secure)


def certificate(folder):
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o644)
    return cert, key


def reelgate(binary, folder, origin_port, cert, key, more="", http3=False, cache="memory: 512MiB"):
    folder.mkdir()
    clear, secure, admin = free_port(), free_port(), free_port()
    config = folder / "reelgate.yaml"
    config.write_text(f"""workers: 1
listen:
  - address: 127.0.0.1:{clear}
  - address: 127.0.0.1:{secure}
    tls: {{ cert: {cert}, key: {key} }}
    http3: {str(http3).lower()}
origins:
  main: {{ kind: http, servers: ["http://127.0.0.1:{origin_port}"] }}
sites: [{{ origin: main }}]
cache: {{ {cache} }}
admin: {{ address: 127.0.0.1:{admin} }}
log: {{ level: warn, access: {{ enabled: false }} }}
{more}""")
    return Server("reelgate", [binary, "serve", "-c", config], clear, secure)


def expect_hit(server, size):
    """Fills the cache and proves that what is measured is a hit, of the right length."""
    url = f"http://127.0.0.1:{server.ports['h1']}/{size}"
    for _ in range(20):
        with urllib.request.urlopen(url, timeout=10) as answer:
            length, status = len(answer.read()), answer.headers.get("Cache-Status", "")
        if length != SIZES[size]:
            fail(f"{server.name} gives {length} bytes for {size}")
        if "hit" in status.lower():
            return
    fail(f"{server.name} does not hit for {size}: {status!r}")


def h2load(server, transport, seconds, connections, streams, targets):
    flag = TRANSPORTS[transport][0]
    command = ["taskset", "-c", CLIENT_CPU, "h2load", "-t", "1", "-c", str(connections), "-m", str(streams)]
    command += ["-D", str(seconds)] if seconds else []
    return command + ([flag] if flag else []) + targets


def measure(server, transport, size, seconds, length=None, fields=(), targets=None):
    """Requests for a second or more: `rate`, `cpu_us` of each, `cpu_s_per_gb`, `busy`.

    `targets`: files of paths, one for each of as many clients, so that they do not ask for the same at the same time; `length`: bytes of the
    body, where `size` is another path than a size; `fields`: of the request, as `Name: value`.
    """
    length = length or SIZES[size]
    _, connections, streams = TRANSPORTS[transport]
    if targets:
        base = ["-B", server.url(transport, "").rstrip("/")]
        commands = [h2load(server, transport, seconds, 1, streams, [*base, "-i", str(paths)]) for paths in targets]
    else:
        fields = [argument for field in fields for argument in ("-H", field)]
        commands = [h2load(server, transport, seconds, connections, streams, [*fields, server.url(transport, size)])]
    before, began = server.cpu_seconds(), time.monotonic()
    clients = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    told = ["".join(client.communicate(timeout=seconds * 4 + 60)) for client in clients]
    wall, cpu = time.monotonic() - began, server.cpu_seconds() - before
    received, rate = 0, 0.0
    for text in told:
        counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
        if not counts or not codes:
            fail(f"h2load said nothing to read: {text}")
        if any(int(codes[i]) for i in (2, 3, 4)):
            fail(f"{server.name}, {transport} {size}: not all answers are 2xx: {text}")
        received += int(re.search(r"\((\d+)\) data", text)[1])
        rate += float(re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)[1])
    if not received:
        fail(f"{server.name}, {transport} {size}: no answer")
    # By bytes: what was under way when time was up cost CPU too.
    requests = received / length
    return {"rate": rate, "cpu_us": cpu / requests * 1e6, "cpu_s_per_gb": cpu / (received / 1e9), "busy": cpu / wall}


STAMP_EVERY = 64 << 10


def make_film(path, size):
    """Sparse, but every 64 KiB tells where it is."""
    with path.open("wb") as film:
        film.truncate(size)
        for at in range(0, size, STAMP_EVERY):
            film.seek(at)
            film.write(b"%016d" % at)


def film_bytes(start, length):
    body = bytearray(length)
    first = start // STAMP_EVERY * STAMP_EVERY
    for at in range(first, start + length, STAMP_EVERY):
        for i, byte in enumerate(b"%016d" % at):
            if start <= at + i < start + length:
                body[at + i - start] = byte
    return bytes(body)


def read_ranges(port, path, ranges):
    """One after the other over one connection, every byte compared: seconds to the first byte of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    waits = []
    for start, length in ranges:
        begun = time.perf_counter()
        connection.request("GET", path, headers={"Range": f"bytes={start}-{start + length - 1}"})
        answer = connection.getresponse()
        first = answer.read(1)
        waits.append(time.perf_counter() - begun)
        body = first + answer.read()
        if answer.status != 206 or body != film_bytes(start, length):
            fail(f"{answer.status}, {len(body)} bytes: not the range {start}+{length}")
    return waits


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
