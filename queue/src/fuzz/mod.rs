//! What the fuzz targets call, and what the stable driver in `tests/fuzz_corpus.rs` calls with the same inputs. Each
//! takes any bytes and panics when the code under it does something that it must not.

mod decoders;
mod folder;
mod recovery;

pub use decoders::{acks, catalog, frame, key_file, keys, record, snapshot};
pub use folder::folder;
pub use recovery::recovery;
