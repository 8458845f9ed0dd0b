//! Debian's nginx as a real origin, with a generated configuration in a folder of its own.

use super::{eventually, free_port};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running nginx; ends when dropped.
pub struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// Serves the files put into [`Nginx::root`], with `Cache-Control: max-age=60`.
    pub fn start() -> Self {
        Self::with("location / { add_header Cache-Control \"public, max-age=60\"; }")
    }

    /// With a server block of one's own; `root` is set.
    pub fn with(server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("root")).expect("a folder for files");
        for _ in 0..5 {
            let port = free_port();
            std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), port, server))
                .expect("nginx.conf is written");
            let mut child = Command::new("nginx")
                .arg("-p")
                .arg(folder.path())
                .args(["-e", "stderr", "-c", "nginx.conf"])
                .stderr(Stdio::piped())
                .spawn()
                .expect("nginx runs (tests/run installs it)");
            let mut gone = false;
            eventually("nginx listens", || {
                gone = child.try_wait().expect("a child can be waited for").is_some();
                gone || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !gone {
                return Self { child, folder, port };
            }
        }
        panic!("nginx did not start on five ports in turn");
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder for the file");
        std::fs::write(path, content).expect("the file is written");
        self
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests in its access log.
    pub fn requests(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("access.log")).map_or(0, |log| log.lines().count())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM: the master ends its workers; SIGKILL would orphan them.
        let ended = Command::new("kill").arg(self.child.id().to_string()).status();
        if !ended.is_ok_and(|s| s.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, port: u16, server: &str) -> String {
    // As root, its workers would become another user, who cannot enter a temporary folder or a checkout in /root. Others than
    // root get a warning that this is ignored.
    let mut text = String::from("user root;\ndaemon off;\nworker_processes 1;\npid nginx.pid;\n");
    text.push_str("events { worker_connections 512; }\nhttp {\n  access_log access.log;\n  default_type video/mp4;\n");
    text.push_str("  types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; text/plain txt; }\n");
    for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "  {name}_temp_path {}/{name};", folder.display());
    }
    let root = folder.join("root");
    let _ = writeln!(text, "  server {{ listen 127.0.0.1:{port}; root {}; {server} }}\n}}", root.display());
    text
}
