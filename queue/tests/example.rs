//! The example is what a newcomer reads first: it is run as it stands, with its own assertions.

#[allow(unreachable_pub)] // its `main` is public for this
#[path = "../examples/append_receive.rs"]
mod append_receive;

#[test]
fn append_receive_runs_to_its_end() {
    append_receive::main().unwrap();
}
