//! Bad starts: one clear error on standard error, and an exit code that is not zero.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use tidegate_tests::{Ended, Sale, Server, Settings, run_to_its_end};

fn serve(settings: &Settings) -> Ended {
    run_to_its_end(&["serve", "--config", settings.write().to_str().unwrap()])
}

/// Exactly one line of complaint, with all of this in it, and a failure.
#[track_caller]
fn assert_one_error(ended: &Ended, parts: &[&str]) {
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    for part in parts {
        assert!(errors[0].contains(part), "`{part}` is not in: {}", errors[0]);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_port_in_use_is_named() {
    let settings = Settings::new();
    for port in settings.ports() {
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_one_error(&serve(&settings), &[&address, "another process has the port"]);
    }
}

#[tokio::test]
async fn fm54_a_second_gateway_on_the_same_ports_does_not_start() {
    let first = Server::start().await;
    let [public, inner] = first.settings.ports();
    let second = Settings::new();
    for (key, port) in [("listen.public", public), ("listen.inner", inner)] {
        let key = format!("TIDEGATE__{}", key.replace('.', "__").to_uppercase());
        let config = second.write();
        let text = std::fs::read_to_string(&config).unwrap();
        let field = if key.ends_with("PUBLIC") { "listen.public" } else { "listen.inner" };
        let own = text.lines().find(|line| line.starts_with(field)).unwrap();
        std::fs::write(&config, text.replace(own, &format!("{field} = \"127.0.0.1:{port}\""))).unwrap();
        let ended = run_to_its_end(&["serve", "--config", config.to_str().unwrap()]);
        assert_one_error(&ended, &[&port.to_string(), "another process has the port"]);
    }
    // The first one is none the worse for it.
    first.shop.open("phone", &Sale::of(1)).await;
    first.shop.win("phone", "ann").await;
}

#[tokio::test]
async fn fm54_a_second_gateway_on_the_same_folder_does_not_start() {
    let first = Server::start().await;
    first.shop.open("phone", &Sale::of(1)).await;
    let data = first.settings.data_dir();
    let second = Settings::new();
    let config = second.write();
    let text = std::fs::read_to_string(&config).unwrap();
    let own = second.data_dir();
    std::fs::write(&config, text.replace(own.to_str().unwrap(), data.to_str().unwrap())).unwrap();
    let ended = run_to_its_end(&["serve", "--config", config.to_str().unwrap()]);
    assert_one_error(&ended, &["locked", data.to_str().unwrap()]);
    first.shop.win("phone", "ann").await;
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_one_is_named() {
    let settings = Settings::new();
    std::fs::write(settings.data_dir(), "a file").unwrap();
    assert_one_error(&serve(&settings), &[settings.data_dir().to_str().unwrap()]);
}

#[tokio::test]
async fn fm29_a_flipped_byte_below_the_durable_mark_names_file_and_offset() {
    let mut server = Server::start().await;
    server.shop.open("phone", &Sale::of(200)).await;
    for buyer in 0..100 {
        server.shop.win("phone", &format!("b{buyer}")).await;
    }
    server.kill().await;
    let folder = server.settings.data_dir().join("commitlog");
    let segment = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    // A byte of the body of an order in the middle.
    let needle = b"\"buyer\":\"b50\"";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap() as u64;
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    let original = bytes[at as usize];
    file.write_all_at(&[original ^ 1], at).unwrap();
    let ended = serve(&server.settings);
    assert_one_error(&ended, &["damaged", segment.to_str().unwrap(), "at byte"]);
    let offset: u64 = {
        let after = ended.stderr.split("at byte ").nth(1).unwrap();
        after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    assert!(offset <= at && at - offset < 4_096, "damage at {at}, told {offset}");
    // The refusal has changed nothing: with the byte put right, all is there.
    file.write_all_at(&[original], at).unwrap();
    server.restart().await;
    assert_eq!(server.shop.audit("phone").await.number("held"), 100);
}

#[tokio::test]
async fn a_log_of_a_newer_release_is_refused_by_name() {
    let mut server = Server::start().await;
    server.shop.open("phone", &Sale::of(1)).await;
    assert_eq!(server.stop().await.code(), Some(0));
    let folder = server.settings.data_dir().join("commitlog");
    let segment = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    // The bytes that are no segment header at all.
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[0xFF; 16], 0).unwrap();
    assert_one_error(&serve(&server.settings), &[segment.to_str().unwrap()]);
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
    let settings = Settings::new().value("listen.pubic", "\"127.0.0.1:1\"");
    let line = 1 + std::fs::read_to_string(settings.write())
        .unwrap()
        .lines()
        .position(|l| l.contains("pubic"))
        .unwrap();
    let place = format!("tidegate.toml:{line}:");
    for command in ["serve", "check"] {
        let ended = run_to_its_end(&[command, "--config", settings.write().to_str().unwrap()]);
        assert_one_error(&ended, &[&place, "pubic", "public"]);
        assert_eq!(ended.code, Some(2));
    }
}

#[test]
fn check_tells_every_error_at_once_and_a_good_file_is_good() {
    let settings = Settings::new();
    let good = run_to_its_end(&["check", "--config", settings.write().to_str().unwrap()]);
    assert_eq!(good.code, Some(0), "{good:?}");
    let bad = settings.set("listen.drain_mss", 1).set_text("data.flush", "sink").set("queue.attempts_max", 0);
    let ended = run_to_its_end(&["check", "--config", bad.write().to_str().unwrap()]);
    assert_eq!(ended.code, Some(2));
    for wrong in ["drain_mss", "sink", "attempts_max"] {
        assert!(ended.stderr.contains(wrong), "{wrong}: {}", ended.stderr);
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    assert_one_error(&run_to_its_end(&["serve", "--config", "/no/such/file.toml"]), &["/no/such/file.toml"]);
}

#[test]
fn an_open_inner_listener_without_tokens_is_refused() {
    let settings = Settings::new();
    let config = settings.write();
    let text = std::fs::read_to_string(&config).unwrap();
    let inner = format!("127.0.0.1:{}", settings.ports()[1]);
    std::fs::write(&config, text.replace(&inner, &format!("0.0.0.0:{}", settings.ports()[1]))).unwrap();
    let ended = run_to_its_end(&["serve", "--config", config.to_str().unwrap()]);
    assert_one_error(&ended, &["token"]);
}
