//! TLS towards Redis, with certificates made here.

mod redis_link_support;

use redis::Value;
use redis_link_support::{count, link, patient, unavailable};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tidegate_stock::redis::link::{PubSubEvent, subscribe};
use tidegate_stock::redis::{RedisOptions, Tls};
use tidegate_stock::testing::redis::{RedisServer, Setup, TlsFiles};

/// An authority, and a certificate of it for 127.0.0.1.
fn certificates(folder: &Path) -> TlsFiles {
    let script = r"
        set -e
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=tidegate-test
        openssl req -newkey rsa:2048 -nodes -keyout node.key -out node.csr -subj /CN=node
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' > ext
        openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out node.pem -days 2 -extfile ext
    ";
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("sh");
    assert!(made.status.success(), "{}; install openssl", String::from_utf8_lossy(&made.stderr));
    TlsFiles {
        ca: folder.join("ca.pem"),
        certificate: folder.join("node.pem"),
        key: folder.join("node.key"),
        client_certificates: true,
    }
}

fn server(folder: &Path) -> (TlsFiles, RedisServer) {
    let files = certificates(folder);
    let setup = Setup { tls: Some(files.clone()), password: Some("secret".into()), ..Setup::default() };
    (files, setup.start())
}

#[tokio::test]
async fn calls_and_subscriptions_over_tls_with_a_client_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (_, server) = server(folder.path());
    assert_eq!(count(&link(server.options()), None).await, Ok(Value::Int(1)));
    assert_eq!(count(&link(server.options()), None).await, Ok(Value::Int(2)));
    let mut heard = Vec::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::select! {
        () = subscribe(Arc::new(server.options()), "tidegate:news", |event| {
            let _ = tell.send(match event {
                PubSubEvent::Message(payload) => String::from_utf8_lossy(payload).into_owned(),
                PubSubEvent::Up(_) => "up".to_owned(),
                PubSubEvent::Down => "down".to_owned(),
            });
        }) => unreachable!("never returns"),
        () = async {
            heard.push(told.recv().await.unwrap());
            server.command(&["PUBLISH", "tidegate:news", "hello"]);
            heard.push(told.recv().await.unwrap());
        } => {}
    }
    assert_eq!(heard, ["up", "hello"]);
}

#[tokio::test]
async fn what_is_not_believed_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (files, server) = server(folder.path());
    let with = |tls| RedisOptions { tls: Some(tls), ..server.options() };

    let stranger = tempfile::tempdir().unwrap();
    let other_ca = Some(certificates(stranger.path()).ca);
    let client = Some((files.certificate.clone(), files.key.clone()));
    let text = unavailable(count(&link(with(Tls { ca_file: other_ca, client })), None).await);
    assert!(text.contains("TLS failed") && text.contains("ca_file"), "{text}");

    let ca_file = Some(files.ca.clone());
    let text = unavailable(count(&link(with(Tls { ca_file: ca_file.clone(), client: None })), None).await);
    assert!(text.contains("client certificate") || text.contains("lost"), "{text}");

    let missing = Some((PathBuf::from("/nowhere/node.pem"), files.key.clone()));
    let text = unavailable(count(&link(with(Tls { ca_file, client: missing })), None).await);
    assert!(text.contains("/nowhere/node.pem"), "{text}");
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = Some(certificates(folder.path()).ca);
    let tls = Some(Tls { ca_file, client: None });
    let connect_timeout = Duration::from_millis(500);
    let port = redis_link_support::web_server().await;
    let web = RedisOptions { tls: tls.clone(), connect_timeout, ..RedisOptions::single("127.0.0.1", port) };
    let text = unavailable(count(&link(patient(web)), None).await);
    assert!(text.contains("TLS failed") && text.contains("write redis://"), "{text}");
    // A Redis takes the greeting for a command that is not whole yet, and waits.
    let server = RedisServer::start();
    let silent = RedisOptions { tls, connect_timeout, ..server.options() };
    let text = unavailable(count(&link(patient(silent)), None).await);
    assert!(text.contains("is for TLS"), "{text}");
}
