//! `[listen.tls]`: the certificate of the public listener.

use super::reader::Section;
use crate::listener::{Certificate, CertificateFile, CertificateFiles};

/// TLS on the public listener.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    /// Where the certificate is.
    pub files: CertificateFiles,
    /// As it was read.
    pub certificate: Certificate,
    /// A client must have finished its handshake after.
    pub handshake_timeout_ms: u64,
    /// Handshakes under way; one more is closed.
    pub handshakes_max: usize,
}

/// `None`: off, or a problem was told.
pub(super) fn read(listen: &mut Section<'_, '_>) -> Option<TlsSettings> {
    let mut section = listen.section("tls");
    let cert_file = section.text_or("cert_file", None);
    let key_file = section.text_or("key_file", None);
    let handshake_timeout_ms = section.number("handshake_timeout_ms", 5_000, 10..=600_000, "ms");
    let handshakes_max = section.number("handshakes_max", 2_000, 1..=1_000_000, "handshakes") as usize;
    let settings = match (cert_file, key_file) {
        (None, None) => None,
        (Some((cert_file, cert_place)), Some((key_file, key_place))) => {
            let files = CertificateFiles { cert_file: cert_file.into(), key_file: key_file.into() };
            match files.read() {
                Ok(certificate) => {
                    Some(TlsSettings { files, certificate, handshake_timeout_ms, handshakes_max })
                }
                Err(error) => {
                    let (place, key) = match error.file {
                        CertificateFile::Cert => (cert_place, "cert_file"),
                        CertificateFile::Key => (key_place, "key_file"),
                    };
                    section.problem(place, key, error.message, None);
                    None
                }
            }
        }
        (cert, _) => {
            let (missing, there) =
                if cert.is_some() { ("key_file", "cert_file") } else { ("cert_file", "key_file") };
            let place = section.place_of(there);
            let help = Some("TLS needs both; plain HTTP needs neither".to_owned());
            section.problem(place, missing, format!("is missing while {there} is set"), help);
            None
        }
    };
    section.finish();
    settings
}
