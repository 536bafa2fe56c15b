//! A mock AI backend that speaks the API of every provider and misbehaves on demand, for tests, demos and drills.
//!
//! Knows HTTP/1.1 and TLS to the byte, and every fault by name ([`FaultKind`]); faults are switched while it runs, by
//! [`Mock::set_faults`] or over its control port (`docs/mock.md`). Refuses to know HAProxy, probes and the operator's
//! file. Called by `cli` (`hapilot mock`, `hapilot demo`) and by tests.

mod api;
mod config;
mod control;
mod dialect;
mod fault;
mod journal;
mod link;
mod prefixes;
mod request;
mod script;
mod server;
mod shared;
mod tls;
mod twist;

pub use config::{MockConfig, MockLoad, MockTls};
pub use fault::{Fault, FaultKind};

use shared::Shared;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A running mock. Dropping it stops it without waiting.
pub struct Mock {
    shared: Arc<Shared>,
    addr: SocketAddr,
    control: SocketAddr,
}

impl Mock {
    /// Starts serving on the current tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound, or a name for the certificate is not one.
    pub async fn start(config: MockConfig) -> io::Result<Self> {
        let certificates = config.tls.as_ref().map(tls::Certificates::make).transpose()?;
        let listener = server::listen(config.bind)?;
        let control_listener = server::listen(config.control)?;
        let (addr, control) = (listener.local_addr()?, control_listener.local_addr()?);
        let shared = Arc::new(Shared::new(config, certificates));
        shared.tasks.spawn(server::accept_loop(Arc::clone(&shared), listener, addr));
        shared.tasks.spawn(server::control_loop(Arc::clone(&shared), control_listener));
        Ok(Self { shared, addr, control })
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of its API: `http://127.0.0.1:40123/v1`.
    pub fn base_url(&self) -> String {
        let scheme = if self.shared.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/v1", self.addr)
    }

    /// The root of its control API, on a port that outlives every fault: `http://127.0.0.1:40124/_mock`.
    pub fn control_url(&self) -> String {
        format!("http://{}/_mock", self.control)
    }

    /// The authority that signed its certificate; none without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.shared.certificates.as_ref().map(|certificates| certificates.ca_pem.as_str())
    }

    /// The URL of its root, without any API's path: `http://127.0.0.1:40123`.
    pub fn root_url(&self) -> String {
        self.base_url().trim_end_matches("/v1").to_owned()
    }

    /// Sets the load that it tells at `/metrics`.
    pub fn set_load(&self, load: MockLoad) {
        *self.shared.load() = load;
    }

    /// Replaces the faults; an empty list makes it healthy. Returns when the port listens, or not, accordingly.
    pub async fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.set_faults(faults);
        self.shared.settled().await;
    }

    /// How many requests it has seen, whatever it answered.
    pub fn requests_total(&self) -> u64 {
        self.shared.journal().total()
    }

    /// The counters, as `GET /_mock/requests` shows them.
    pub fn journal(&self) -> serde_json::Value {
        self.shared.journal().show()
    }

    /// Closes the listeners and every connection, and waits until the last task has ended.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
