//! The fuzz targets without a fuzzer: every input kept in `fuzz/corpus`, and seeded mutations of them.
//! `TIDEGATE_FUZZ_RUNS` says how many mutations of each target (of recovery a hundredth), `TIDEGATE_SEED` which.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate_queue::{NewMessage, QueueChoice, fuzz};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.next() as u8),
                4 if at < bytes.len() => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill([0, 1, 0x7F, 0xFF][self.below(4)]);
                }
                _ => {
                    let other = &inputs[self.below(inputs.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
            }
        }
        bytes
    }
}

fn drive(target: &str, runs: u64, mut run: impl FnMut(&[u8])) {
    let mut files: Vec<_> = fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let inputs: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!inputs.is_empty(), "no corpus for {target}");
    for input in &inputs {
        run(input);
    }
    let seed = number("TIDEGATE_SEED", 1);
    println!("{target}: {} inputs, {runs} mutations, seed {seed}", inputs.len());
    for n in 0..runs {
        let input = Random(seed.wrapping_mul(1 << 32).wrapping_add(n)).mutate(&inputs);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&input))).is_err();
        assert!(!failed, "{target}, seed {seed}, mutation {n}: {input:02x?}");
    }
}

#[test]
fn decoders_take_any_bytes() {
    let runs = number("TIDEGATE_FUZZ_RUNS", 10_000);
    drive("record", runs, fuzz::record);
    drive("frame", runs, fuzz::frame);
    drive("acks", runs, fuzz::acks);
    drive("catalog", runs, fuzz::catalog);
    drive("snapshot", runs, fuzz::snapshot);
}

#[test]
fn key_files_take_any_bytes() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    drive("keys", number("TIDEGATE_FUZZ_RUNS", 10_000), |input| fuzz::keys(input, dir.path()));
}

#[test]
fn recovery_takes_any_damage() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let data = dir.path().join("data");
    drive("recovery", number("TIDEGATE_FUZZ_RUNS", 10_000) / 100, |input| fuzz::recovery(input, &data));
}

#[test]
fn a_queue_takes_any_damage() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let data = dir.path().join("data");
    drive("folder", number("TIDEGATE_FUZZ_RUNS", 10_000) / 100, |input| fuzz::folder(input, &data));
}

/// Writes the first inputs anew, from a real queue. `cargo test -p tidegate-queue --test fuzz_corpus -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn make_corpus() {
    let folder = Folder::new();
    let queue = folder.open();
    let keyed = NewMessage {
        queue: QueueChoice::Explicit(1),
        tag: "sale",
        keys: &["buyer-7", "ticket-9"],
        properties: &[("colour", "blue"), ("größe", "L")],
        deadline_ms: Some(NOW_MS + 60_000),
        ..message(b"{\"sku\":1}")
    };
    append(&queue, &[message(b"plain"), message(b""), keyed]);
    append(&queue, &[NewMessage { deliver_at_ms: Some(NOW_MS + 5_000), ..message(b"later") }]);
    let half = queue.begin("payments", &keyed).unwrap();
    let other = queue.begin("payments", &message(b"undone")).unwrap();
    settle_down(&queue);
    queue.commit(half.first).unwrap();
    queue.roll_back(other.first).unwrap();
    for n in 0..20u8 {
        append(&queue, &[message(&[n])]);
    }
    let leases = receive(&queue, GROUP, 12, 60_000);
    for lease in leases.iter().step_by(2) {
        ack(&queue, GROUP, lease).unwrap();
    }
    queue.nack(TOPIC, GROUP, &[leases[1].receipt.clone()], Some(30_000));
    receive(&queue, "audit", 3, 60_000);
    queue.close().unwrap();
    let read = |path: &str| fs::read(folder.dir.path().join(path)).unwrap();
    let segment = read("commitlog/00000000000000000000");
    let checkpoint = read("checkpoint");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(name), bytes).unwrap();
    };
    let (mut at, mut records, mut frames) = (64, 0, 0);
    while at + 64 < segment.len() && (records < 12 || frames < 3) {
        let word = |at: usize| u32::from_le_bytes(segment[at..at + 4].try_into().unwrap()) as usize;
        if segment[at..].starts_with(b"TGFR") {
            put("frame", &format!("frame-{frames}"), &[&[0x80], &segment[at..at + 64]].concat());
            (at, frames) = (at + 64, frames + 1);
        } else {
            put("record", &format!("record-{records}"), &segment[at..at + word(at + 4)]);
            (at, records) = (at + word(at + 4), records + 1);
        }
    }
    put("frame", "checkpoint", &[&[0x81], &checkpoint[..64]].concat());
    put("frame", "segment", &[&[0x82], &segment[..64]].concat());
    let snapshot = read("snapshot/state");
    put("snapshot", "file", &snapshot);
    put("snapshot", "body", &snapshot[64..]);
    put("keys", "file", &fuzz::key_file(&folder.dir.path().join("sample")));
    let acks = read("groups/acks");
    put("acks", "file", &acks);
    put("acks", "body", &acks[28..]);
    let catalog = String::from_utf8(read("catalog/topics.json")).unwrap();
    put("catalog", "file", catalog.as_bytes());
    put("catalog", "json", catalog.rsplit_once("\ncrc32c").unwrap().0.as_bytes());
    // Closed or killed; then kind, file, place, count of each edit (see fuzz/recovery.rs).
    let edits: [&[u8]; 16] = [
        &[0],
        &[1],
        &[0, 0, 1, 0x00, 0x02, 3, 0],
        &[1, 0, 2, 0x80, 0x00, 0, 0],
        &[0, 1, 1, 0x48, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 2, 3, 0x00, 0x04, 0x00, 0x10, 0, 1, 5, 0, 1, 0],
        &[1, 3, 4, 0x00, 0x08, 0, 0],
        &[0, 4, 5, 0x10, 0x03, 0, 0, 5, 2, 0, 0, 9, 9],
        &[1, 6, 2, 0, 0, 4, 0],
        &[0, 7, 1, 0x00, 0x02, 0, 0, 2, 0x00, 0x02],
        &[1, 6, 3, 0, 0, 4, 0],
        &[1, 6, 4, 0, 0, 4, 0],
        &[1, 6, 5, 0, 0, 4, 0],
        &[1, 6, 6, 0, 0, 4, 0],
        &[0, 6, 6, 0, 0, 4, 0],
        &[1, 6, 6, 0, 0, 4, 0, 6, 5, 0, 0, 4, 0],
    ];
    for (n, edit) in edits.into_iter().enumerate() {
        put("recovery", &format!("edits-{n}"), edit);
    }
}
