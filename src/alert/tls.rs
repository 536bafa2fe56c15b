//! TLS towards sinks: by the machine's own authorities.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();

/// Speaks TLS with a host.
pub(super) async fn handshake(host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    // Read once, from some hundred files.
    let config = tokio::task::spawn_blocking(|| CONFIG.get_or_init(config).clone());
    let config = config.await.map_err(|e| e.to_string())??;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name for TLS"))?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|e| format!("TLS with {host}: {e}"))
}

fn config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this machine has no certificate authorities (install ca-certificates)".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
