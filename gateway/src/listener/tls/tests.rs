//! Certificates: which are taken, and which change nothing.

use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("install openssl");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn pair(folder: &Path, name: &str, days: u32) -> CertificateFiles {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN={name} \
             -keyout {name}.key -out {name}.pem"
        ),
    );
    CertificateFiles {
        cert_file: folder.join(format!("{name}.pem")),
        key_file: folder.join(format!("{name}.key")),
    }
}

fn tls(files: &CertificateFiles) -> Tls {
    let certificate = files.read().unwrap();
    let settings =
        TlsSettings { files: files.clone(), certificate, handshake_timeout_ms: 1_000, handshakes_max: 10 };
    Tls::new(&settings, None).unwrap()
}

#[test]
fn a_certificate_tells_its_end_and_who_may_read_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let files = pair(folder.path(), "one", 10);
    let now_ms = tidegate_queue::Clock::now_ms(&tidegate_queue::SystemClock::new());
    let days = |tls: &Tls| (tls.not_after_ms() - now_ms + 3_600_000) / (24 * 3_600_000);
    let set_mode = |mode| {
        std::fs::set_permissions(&files.key_file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o600);
    assert_eq!((days(&tls(&files)), tls(&files).key_is_open()), (10, false));
    for open in [0o640, 0o604, 0o644] {
        set_mode(open);
        assert!(tls(&files).key_is_open(), "{open:o}");
    }
}

#[test]
fn a_new_pair_is_taken_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (pair(folder.path(), "one", 10), pair(folder.path(), "two", 20));
    let used =
        CertificateFiles { cert_file: folder.path().join("cert"), key_file: folder.path().join("key") };
    let put = |cert: &Path, key: &Path| {
        std::fs::copy(cert, &used.cert_file).unwrap();
        std::fs::copy(key, &used.key_file).unwrap();
    };
    put(&one.cert_file, &one.key_file);
    let tls = tls(&used);
    let first = tls.not_after_ms();
    assert_eq!(tls.reload(), Ok(false));

    put(&two.cert_file, &one.key_file);
    let error = tls.reload().unwrap_err();
    assert!(error.file == CertificateFile::Key && error.message.contains("cannot serve"), "{error}");
    for (text, file) in [("", CertificateFile::Cert), ("nonsense", CertificateFile::Cert)] {
        std::fs::write(&used.cert_file, text).unwrap();
        assert_eq!(tls.reload().unwrap_err().file, file);
    }
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&used.cert_file, broken).unwrap();
    assert!(tls.reload().unwrap_err().message.contains("is no certificate"));
    put(&two.cert_file, &two.cert_file);
    assert!(tls.reload().unwrap_err().message.contains("holds no private key"));
    std::fs::remove_file(&used.key_file).unwrap();
    assert!(tls.reload().unwrap_err().message.contains("cannot be read"));
    assert_eq!(tls.not_after_ms(), first, "the first goes on");
    assert_eq!(tls.counts.reload_failures.load(Ordering::Relaxed), 6);

    put(&two.cert_file, &two.key_file);
    assert_eq!(tls.reload(), Ok(true));
    assert!(tls.not_after_ms() > first);
}
