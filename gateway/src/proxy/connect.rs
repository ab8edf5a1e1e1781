//! A connection to an upstream: TCP, and TLS where the upstream is `https://`.

use super::upstream::Address;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Bytes to and from an upstream.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects. Unbounded in time: the caller sets the bound. Cancelled: nothing is left behind.
pub(super) async fn connect(address: &Address, tls: Option<&Arc<ClientConfig>>) -> io::Result<Stream> {
    let tcp = TcpStream::connect((&*address.host, address.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = tls.filter(|_| address.https) else { return Ok(Stream::Plain(tcp)) };
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// How `https://` upstreams are checked: against the authorities of this PEM file, else the system's.
pub fn tls_client(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let describe = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| describe(&error))? {
                roots
                    .add(certificate.map_err(|error| describe(&error))?)
                    .map_err(|error| describe(&error))?;
            }
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate authority to believe; name a PEM file with one".to_owned());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }
}
