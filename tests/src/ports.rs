//! Free ports that stay the same over restarts.

use std::fs::{File, create_dir_all};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes ports for outgoing connections, so that no client of another test sits
/// on a port while its server restarts.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// Two ports on 127.0.0.1 that nobody listens on and that no other test gets, of this process or of another one.
pub fn free_ports() -> [u16; 2] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time begin at different places.
    let start = (std::process::id().wrapping_mul(7_919) % u32::from(COUNT)) as u16;
    let mut free = (0..COUNT).filter_map(|_| {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        (is_ours(port) && TcpListener::bind(("127.0.0.1", port)).is_ok()).then_some(port)
    });
    [free.next().unwrap(), free.next().unwrap()]
}

/// A port is free for a moment while its server restarts: a locked file says that it is taken all the same, until this
/// process ends.
fn is_ours(port: u16) -> bool {
    let folder = std::env::temp_dir().join("tidegate-test-ports");
    create_dir_all(&folder).unwrap();
    let file = File::options().create(true).append(true).open(folder.join(port.to_string())).unwrap();
    let ours = file.try_lock().is_ok();
    if ours {
        // The lock goes with the last handle.
        std::mem::forget(file);
    }
    ours
}
