//! Backups of a gateway that sells: what was answered before one began is in it, and a gateway starts from it.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tidegate_tests::{Crowd, Sale, Server, Settings, Shop, Told, eventually, gateway_binary};

/// Exit code, standard output, standard error.
type Ran = (Option<i32>, String, String);

fn command(data: &Path, to: &Path) -> Command {
    let mut command = Command::new(gateway_binary());
    command.arg("backup").arg("--data").arg(data).arg("--to").arg(to);
    command
}

async fn run(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

async fn backup(data: &Path, to: &Path) -> Ran {
    run(command(data, to)).await
}

fn partial_of(to: &Path) -> PathBuf {
    let mut name = OsString::from(to);
    name.push(".partial");
    name.into()
}

/// Everything in a folder with its bytes' lengths; to see that nothing was changed.
fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                meta if meta.is_dir() => folders.push(entry.path()),
                meta => found.push((entry.path(), meta.len())),
            }
        }
    }
    found.sort();
    found
}

async fn transaction(shop: &Shop) -> String {
    let half = json!({ "message": { "body": 7 }, "producer_group": "shop" });
    let begun = shop.inner.post("/v1/topics/t/transactions", &[], &half).await.expect(200);
    begun.str("transaction").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_what_was_answered_before_and_a_gateway_starts_from_it() {
    // The log is deleted up to the newest snapshots, while it is copied.
    let settings = Settings::new()
        .set("data.segment_bytes", 64 << 10)
        .set("data.snapshot_bytes", 64 << 10)
        .set("data.retention_ms", 1);
    let mut server = Server::start_with(settings).await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let told = Arc::new(Told::default());
    let crowd = Crowd::gather(&shop, &told, "phone", 1);
    let mut backups = Vec::new();
    for round in 1..=3 {
        told.until_tickets(round * 120).await;
        let transaction = transaction(&shop).await;
        let before = told.so_far();
        let restored = Settings::new();
        let (code, out, err) = backup(&server.settings.data_dir(), &restored.data_dir()).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert!(out.contains("log is sound"), "{out}");
        println!("{out}");
        assert!(!partial_of(&restored.data_dir()).exists());
        backups.push((restored, before, transaction));
    }
    server.kill().await;
    crowd.disperse().await;
    for (settings, before, transaction) in backups {
        // As it lies there …
        let mut audit = Command::new(gateway_binary());
        audit.arg("audit").arg("--data").arg(settings.data_dir());
        let (code, out, err) = run(audit).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        // … and with a gateway on it, which sells on.
        let restored = Server::start_with(settings).await;
        before.assert_kept(&restored.shop, "phone").await;
        restored.shop.win("phone", "after").await;
        let resolution = json!({ "resolution": "commit" });
        let path = format!("/v1/transactions/{transaction}");
        restored.shop.inner.post(&path, &[], &resolution).await.expect(200);
    }
}

#[tokio::test]
async fn a_backup_that_dies_is_known_by_its_name_and_the_next_one_goes_on_beside_it() {
    // Prepared segments make the folder large enough to be copied for a while.
    let server = Server::start_with(Settings::new().set("data.segment_bytes", 64 << 20)).await;
    server.shop.open("phone", &Sale::of(10)).await;
    let ticket = server.shop.win("phone", "ann").await;
    let data = server.settings.data_dir();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy");
    let mut child = command(&data, &to).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it copies", || async { partial_of(&to).join("commitlog").exists().then_some(()) }).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!to.exists() && partial_of(&to).exists());
    // A gateway does not start from it, whatever is there of it.
    let settings = Settings::new();
    std::fs::rename(partial_of(&to), settings.data_dir()).unwrap();
    let mut serve = Command::new(gateway_binary());
    serve.args(["serve", "--config"]).arg(settings.write());
    let (code, _, err) = run(serve).await;
    assert!(code == Some(3) && err.contains("checkpoint"), "{code:?} {err}");
    std::fs::rename(settings.data_dir(), partial_of(&to)).unwrap();
    let left = listing(&partial_of(&to));
    let (code, _, err) = backup(&data, &to).await;
    assert!((code == Some(2)) && err.contains("copy.partial"), "{code:?} {err}");
    assert_eq!(listing(&partial_of(&to)), left, "what another one made is not touched");
    let other = Settings::new();
    let (code, out, err) = backup(&data, &other.data_dir()).await;
    assert_eq!(code, Some(0), "{out}{err}");
    drop(server);
    let restored = Server::start_with(other).await;
    restored.shop.ticket("ann", &ticket).await.expect(200);
}

#[tokio::test]
async fn nothing_is_overwritten_and_a_failed_backup_leaves_nothing() {
    let server = Server::start().await;
    let data = server.settings.data_dir();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy");
    let refused = async |to: &Path, code: i32, word: &str| {
        let before = listing(folder.path());
        let (found, out, err) = backup(&data, to).await;
        assert!(found == Some(code) && err.contains(word), "{found:?} {out} {err}");
        assert_eq!(listing(folder.path()), before);
    };
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), "x").unwrap();
    refused(&to, 2, "not empty").await;
    refused(&data.join("copy"), 2, "data folder itself").await;
    refused(&folder.path().join("none/copy"), 3, "none").await;
    std::fs::remove_file(to.join("mine")).unwrap();
    // A target that is full: no file there can grow beyond 100 blocks.
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"").arg(gateway_binary());
    limited.arg("backup").arg("--data").arg(&data).arg("--to").arg(&to);
    let (code, out, err) = run(limited).await;
    assert!(code == Some(3) && err.contains("copy.partial"), "{code:?} {out} {err}");
    assert!(!partial_of(&to).exists() && listing(&to).is_empty());
    // An empty folder is as good as none.
    let (code, out, err) = backup(&data, &to).await;
    assert_eq!(code, Some(0), "{out}{err}");
    // And of a folder at rest, also over a crash.
    let mut server = server;
    server.kill().await;
    let again = folder.path().join("again");
    assert_eq!(backup(&data, &again).await.0, Some(0));
    let empty = tempfile::tempdir().unwrap();
    let (code, _, err) = backup(empty.path(), &folder.path().join("third")).await;
    assert!(code == Some(3) && err.contains("data folder"), "{code:?} {err}");
}
