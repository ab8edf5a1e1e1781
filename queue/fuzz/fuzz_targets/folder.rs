#![no_main]

use std::sync::LazyLock;
use tempfile::TempDir;

/// In memory where there is such a file system: syncs cost nothing there.
static DIR: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_queue::fuzz::folder(bytes, &DIR.path().join("data")));
