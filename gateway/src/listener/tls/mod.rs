//! TLS on the public listener: handshakes, and certificates that change while it runs.
//!
//! ```text
//! certificate.rs   a certificate with its key, from files
//! reload.rs        follows the files, and warns before the certificate ends
//! ```

mod certificate;
mod reload;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError, CertificateFile, CertificateFiles};
pub(crate) use reload::run_certificate_reload;

use crate::config::TlsSettings;
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// TLS with the certificate of the moment.
pub struct Tls {
    files: CertificateFiles,
    acceptor: TlsAcceptor,
    present: Arc<Present>,
    handshakes: Semaphore,
    handshake_timeout: Duration,
    /// For `/metrics`.
    pub counts: Arc<TlsCounts>,
}

/// What came of handshakes.
#[derive(Debug, Default)]
pub struct TlsCounts {
    /// Made.
    pub done: AtomicU64,
    /// Not TLS, not of ours, or not in time.
    pub failed: AtomicU64,
    /// Closed because too many were under way.
    pub refused: AtomicU64,
    /// Looks at the files that found them unusable.
    pub reload_failures: AtomicU64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate that new handshakes get.
#[derive(Debug)]
struct Present(ArcSwap<Certificate>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().key.clone())
    }
}

impl Tls {
    /// With the certificate that the configuration was read with. Goes on counting where `running` is.
    pub fn new(settings: &TlsSettings, running: Option<&Self>) -> Result<Self, rustls::Error> {
        let present = Arc::new(Present(ArcSwap::from_pointee(settings.certificate.clone())));
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(present.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are resumed by tickets that the client keeps: nothing is remembered here for anybody. Early data,
        // which can be replayed, stays off.
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            files: settings.files.clone(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            present,
            handshakes: Semaphore::new(settings.handshakes_max),
            handshake_timeout: Duration::from_millis(settings.handshake_timeout_ms),
            counts: running.map(|tls| tls.counts.clone()).unwrap_or_default(),
        })
    }

    /// The handshake. `None`: it came to nothing, and the connection is closed.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let count = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        let Ok(_turn) = self.handshakes.try_acquire() else {
            count(&self.counts.refused);
            return None;
        };
        // Boxed: a connection's task keeps no room for it.
        let handshake = Box::pin(self.acceptor.accept(stream));
        if let Ok(Ok(stream)) = tokio::time::timeout(self.handshake_timeout, handshake).await {
            count(&self.counts.done);
            return Some(stream);
        }
        count(&self.counts.failed);
        None
    }

    /// Reads the files again. `Ok(true)`: the certificate has changed and is taken by every handshake from now on. An
    /// error changes nothing. Blocks on the files.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let certificate = self.files.read().inspect_err(|_| {
            self.counts.reload_failures.fetch_add(1, Ordering::Relaxed);
        })?;
        if certificate == **self.present.0.load() {
            return Ok(false);
        }
        self.present.0.store(Arc::new(certificate));
        Ok(true)
    }

    /// Where the certificate is.
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// Until when the present certificate is good; Unix ms.
    pub fn not_after_ms(&self) -> u64 {
        self.present.0.load().not_after_ms
    }

    /// Whether others than its owner may read the key.
    pub fn key_is_open(&self) -> bool {
        self.present.0.load().key_is_open
    }
}
