//! A certificate with its key, from two files of PEM.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_cert::der::Decode as _;

/// Bytes of one file, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those between it and the authority; PEM.
    pub cert_file: PathBuf,
    /// Its private key; PEM.
    pub key_file: PathBuf,
}

/// A certificate that fits its key.
#[derive(Clone)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// It is good until then; Unix ms.
    pub(super) not_after_ms: u64,
    /// Others than the owner may read the key.
    pub(super) key_is_open: bool,
    texts: (Vec<u8>, Vec<u8>),
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("not_after_ms", &self.not_after_ms).finish_non_exhaustive()
    }
}

/// Whether both were read from the same texts.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

/// Which of the two files is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFile {
    /// `cert_file`
    Cert,
    /// `key_file`
    Key,
}

/// Why there is no certificate; the text names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CertificateError {
    /// Which file.
    pub file: CertificateFile,
    /// What is wrong, and what to do.
    pub message: String,
}

impl CertificateFiles {
    /// Reads both and checks that they belong together. Blocks on the files.
    pub fn read(&self) -> Result<Certificate, CertificateError> {
        let fail = |file: CertificateFile, why: String| {
            let path = match file {
                CertificateFile::Cert => &self.cert_file,
                CertificateFile::Key => &self.key_file,
            };
            CertificateError { file, message: format!("{}: {why}", path.display()) }
        };
        let (cert_text, _) = read(&self.cert_file).map_err(|why| fail(CertificateFile::Cert, why))?;
        let (key_text, mode) = read(&self.key_file).map_err(|why| fail(CertificateFile::Key, why))?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&cert_text)
            .collect::<Result<_, _>>()
            .map_err(|error| fail(CertificateFile::Cert, format!("no certificate in PEM: {error}")))?;
        let Some(first) = chain.first() else {
            return Err(fail(CertificateFile::Cert, "holds no certificate in PEM".to_owned()));
        };
        let not_after_ms = not_after_ms(first).map_err(|why| fail(CertificateFile::Cert, why))?;
        let key = PrivateKeyDer::from_pem_slice(&key_text)
            .map_err(|error| fail(CertificateFile::Key, format!("holds no private key in PEM: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
            let cert = self.cert_file.display();
            fail(CertificateFile::Key, format!("the key cannot serve the certificate of {cert}: {error}"))
        })?;
        let key_is_open = mode & 0o077 != 0;
        Ok(Certificate { key: Arc::new(key), not_after_ms, key_is_open, texts: (cert_text, key_text) })
    }
}

/// Text and permissions.
fn read(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let refused = |error: std::io::Error| {
        format!("cannot be read: {error}; check the path and that this user may read it")
    };
    let file = std::fs::File::open(path).map_err(refused)?;
    let mode = file.metadata().map_err(refused)?.permissions().mode();
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(refused)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok((text, mode))
}

fn not_after_ms(certificate: &CertificateDer<'_>) -> Result<u64, String> {
    let parsed = x509_cert::Certificate::from_der(certificate)
        .map_err(|error| format!("is no certificate: {error}"))?;
    Ok(parsed.tbs_certificate.validity.not_after.to_unix_duration().as_millis() as u64)
}
