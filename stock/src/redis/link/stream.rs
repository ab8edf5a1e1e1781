//! A TCP connection, with TLS or without.

use crate::redis::options::{Address, Tls};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_rustls::{TlsConnector, rustls};

/// Bytes both ways.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// A connected stream; nothing was sent but the TLS handshake.
pub(super) type Stream = Box<dyn Bytes>;

/// Connects. Unbounded in time: the caller sets the bound. Cancelled: nothing is left behind.
pub(super) async fn connect(address: &Address, tls: Option<&Tls>) -> Result<Stream, String> {
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|e| e.to_string())?;
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let Some(tls) = tls else {
        return Ok(Box::new(tcp));
    };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|e| format!("`{}` is no name for TLS: {e}", address.host))?;
    let stream =
        TlsConnector::from(Arc::new(config(tls)?)).connect(name, tcp).await.map_err(|e| tls_failure(&e))?;
    Ok(Box::new(stream))
}

/// What is wrong and what to do, on one line.
fn tls_failure(error: &std::io::Error) -> String {
    let help = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "check ca_file, and the names in the server's certificate"
        }
        Some(rustls::Error::AlertReceived(_)) => {
            "the server refuses: check client_cert_file and client_key_file, and its own log"
        }
        _ => "check that this port is for TLS; without TLS write redis://, or leave tls out",
    };
    format!("TLS failed: {error}; {help}")
}

/// Read anew for each connection, so that renewed certificates count without a restart.
fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let roots = match &tls.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
            }
            Arc::new(roots)
        }
        None => system_roots(),
    };
    if roots.is_empty() {
        return Err("no certificate authority to believe; set ca_file, or install ca-certificates".into());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    match &tls.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|e| format!("key {}: {e}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key_der)
                .map_err(|e| format!("certificate {}: {e}", certificate.display()))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let describe = |e| format!("certificate {}: {e}", path.display());
    let list: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(describe)?.collect::<Result<_, _>>().map_err(describe)?;
    if list.is_empty() {
        return Err(format!("certificate {}: no certificate in the file", path.display()));
    }
    Ok(list)
}

/// Once a process: reading them takes milliseconds, on a thread that serves requests.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
        .clone()
}
