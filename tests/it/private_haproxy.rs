//! The HAProxy of the adapter's tests: one frontend with a map, a text below it that the test chooses, and a revision
//! marker.

use crate::support::haproxy::{Binary, Private};
use crate::support::port::free_port;
use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;

/// Deadline for everything that should take milliseconds: a machine that is busy with other tests is slow.
pub const LONG: Duration = Duration::from_secs(20);

/// A running HAProxy; it ends with the value.
pub struct PrivateHaproxy {
    pub directory: Utf8PathBuf,
    /// The port of `frontend f`.
    pub port: u16,
    _process: Private,
}

impl PrivateHaproxy {
    /// Starts one whose configuration is a fixed head, `frontend f` and this text below it. `@DIR@` in the text stands
    /// for its directory.
    pub fn start(binary: &Binary, text: &str) -> Self {
        let port = free_port();
        let process = Private::start(binary, |place| {
            let directory = Utf8Path::from_path(place.dir()).unwrap();
            crate::support::write(directory.join("m.map"), "a 1\n");
            config(directory, port, "hapilot first", text)
        });
        let directory = Utf8Path::from_path(process.place().dir()).unwrap().to_owned();
        Self { directory, port, _process: process }
    }

    /// Rewrites the configuration with another revision marker.
    pub fn configure(&self, marker: &str, text: &str) {
        crate::support::write(self.directory.join("haproxy.cfg"), config(&self.directory, self.port, marker, text));
    }

    pub fn admin(&self) -> Utf8PathBuf {
        self.directory.join("admin.sock")
    }

    pub fn master(&self) -> Utf8PathBuf {
        self.directory.join("master.sock")
    }

    pub fn map(&self) -> String {
        self.directory.join("m.map").into_string()
    }
}

fn config(directory: &Utf8Path, port: u16, marker: &str, text: &str) -> String {
    let text = text.replace("@DIR@", directory.as_str());
    format!(
        "global\n  stats socket {directory}/admin.sock level admin mode 600\n  description {marker}\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n\
         frontend f\n  bind 127.0.0.1:{port}\n  http-request set-header x %[path,map({directory}/m.map)]\n{text}"
    )
}
