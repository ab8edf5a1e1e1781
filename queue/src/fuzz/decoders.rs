//! Decoders of single structures: whatever the bytes are, they answer; what they accept means the same when it is
//! written and read again.

use crate::group::checkpoint;
use crate::log::fuzz as log;
use crate::storage::DiskStorage;
use std::path::Path;

/// Offsets that a queue is taken to have when progress of it is read.
const END: u64 = 64;

/// The record decoder.
pub fn record(bytes: &[u8]) {
    log::record(bytes);
}

/// The decoders of frame headers, segment headers and checkpoint slots. The first byte chooses one of them; with
/// its upper bit the checksum is made right first, so that what lies behind it is reached.
pub fn frame(bytes: &[u8]) {
    log::headers(bytes);
}

/// The catalog's decoder, also behind its checksum.
pub fn catalog(bytes: &[u8]) {
    crate::catalog::fuzz(bytes);
}

/// The snapshot's decoder, also behind its checksum; what it answers is then used as a start does.
pub fn snapshot(bytes: &[u8]) {
    crate::snapshot::fuzz(bytes);
}

/// A file of the key index in the folder `dir`, behind its header's checksum.
pub fn keys(bytes: &[u8], dir: &Path) {
    crate::keys::fuzz(bytes, &DiskStorage::new(dir).expect("a folder"));
}

/// One that is whole, made in the folder `dir`.
pub fn key_file(dir: &Path) -> Vec<u8> {
    crate::keys::sample(&DiskStorage::new(dir).expect("a folder"))
}

/// The acknowledgement checkpoint's decoder, also behind its checksum; what it answers is then used as a start does.
pub fn acks(bytes: &[u8]) {
    let _ = checkpoint::decode(bytes, 7);
    let Some(groups) = checkpoint::decode_body(bytes) else { return };
    let encoded = encode(&groups);
    let again = checkpoint::decode_body(&encoded).expect("what was read can be written and read again");
    assert_eq!(encode(&again).len(), encoded.len());
    for progress in groups.into_iter().flat_map(|group| group.queues) {
        let mut progress = progress;
        progress.clamp(END);
        progress.raise(3);
        assert!(progress.backlog(END) <= END);
        assert!(progress.kept_dead().all(|offset| offset < END));
        for _ in 0..END {
            let Some(offset) = progress.peek_new(END) else { break };
            progress.lease(offset, 1, 10, u64::MAX);
        }
        assert_eq!(
            progress.peek_new(END),
            None,
            "every offset is leased or done after as many steps as there are"
        );
        progress.promote(u64::MAX - 1, 1, usize::MAX);
        while let Some((_, offset)) = progress.take_report(1) {
            assert!(offset < END);
        }
        let _ = progress.stats(0, END);
        let _ = (progress.oldest(), progress.next_due_ms(), progress.report_due_ms());
    }
}

fn encode(groups: &[checkpoint::GroupProgress]) -> Vec<u8> {
    let mut body = checkpoint::begin(groups.len() as u32);
    for group in groups {
        checkpoint::encode_group(&mut body, &group.topic, &group.group, &group.queues);
    }
    body
}
