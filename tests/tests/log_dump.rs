//! `tidegate log dump` and `verify` on a log that was built byte by byte from the text of `queue/FORMAT.md`.
#![allow(clippy::unwrap_used)]

#[path = "../../queue/tests/format/by_hand.rs"]
mod by_hand;
#[path = "../../queue/tests/format/bytes.rs"]
#[allow(dead_code, reason = "the parser is for the queue's own tests")]
mod bytes;

use by_hand::build;
use serde_json::{Value, json};
use tidegate_tests::run_to_its_end;

#[test]
fn dump_tells_what_was_built_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let written = build(dir.path(), true);
    let data = dir.path().to_str().unwrap();
    let ended = run_to_its_end(&["log", "dump", "--json", "--data", data]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), written.len());
    for (line, (position, record)) in lines.iter().zip(&written) {
        let kind = ["message", "delayed", "control", "half"][usize::from(record.kind)];
        assert_eq!((&line["kind"], &line["id"]), (&json!(kind), &json!(position.to_string())), "{line}");
        assert_eq!((&line["topic"], &line["tag"]), (&json!(record.topic), &json!(record.tag)), "{line}");
        assert_eq!(
            (&line["queue"], &line["offset"]),
            (&json!(record.queue), &json!(record.offset)),
            "{line}"
        );
        assert_eq!(line["keys"], json!(record.keys), "{line}");
    }
    let ended = run_to_its_end(&["log", "dump", "--data", data, "--key", "buyer-9"]);
    let (position, record) = &written[1];
    let line = format!(
        "{position} message orders/1@1 born={} tag=größe keys=ticket-1,,buyer-9 bytes={}\n",
        record.born_at_ms,
        record.body.len()
    );
    assert_eq!((ended.code, ended.stdout), (Some(0), line));
    let ended = run_to_its_end(&["log", "verify", "--data", data]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("closed properly") && ended.stdout.contains("sound"), "{}", ended.stdout);
}
