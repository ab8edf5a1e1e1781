//! A proxy before Redis that holds back what Redis answers to the reservations of a buyer: between the script, which has
//! run, and the gateway, which does not know yet.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is held back now.
#[derive(Debug, Clone, Default)]
struct Hold {
    /// A buyer's name; replies on a connection that carried a reservation of theirs are held.
    needle: Option<String>,
    /// Connections with a reply that is held.
    held: usize,
}

/// The proxy, as tasks of the test's runtime. Dropped: all its connections end.
#[derive(Debug)]
pub struct HoldProxy {
    port: u16,
    hold: watch::Sender<Hold>,
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl HoldProxy {
    /// Before the Redis at a port of 127.0.0.1.
    pub async fn start(backend: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", crate::free_ports()[0])).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hold = watch::channel(Hold::default()).0;
        let connections: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let (inside, known) = (hold.clone(), connections.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let hold = inside.clone();
                known.lock().push(tokio::spawn(async move {
                    let _ = relay(client, backend, &hold).await;
                }));
            }
        });
        Self { port, hold, accepting, connections }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the answers to reservations of buyers whose names contain this are held back.
    pub fn hold(&self, buyer: &str) {
        self.hold.send_modify(|hold| hold.needle = Some(buyer.to_owned()));
    }

    /// Waits until Redis has answered a reservation whose answer is held back.
    pub async fn until_held(&self) {
        let mut hold = self.hold.subscribe();
        crate::within("an answer of Redis is held back", hold.wait_for(|hold| hold.held > 0)).await.unwrap();
    }

    /// Lets go what is held back. It is in the sockets of the gateway when this returns.
    pub async fn release(&self) {
        self.hold.send_modify(|hold| hold.needle = None);
        let mut hold = self.hold.subscribe();
        crate::within("what was held back is passed on", hold.wait_for(|hold| hold.held == 0)).await.unwrap();
    }
}

impl Drop for HoldProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        for connection in self.connections.lock().drain(..) {
            connection.abort();
        }
    }
}

async fn relay(mut client: TcpStream, backend: u16, hold: &watch::Sender<Hold>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", backend)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut holding = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let needle = hold.borrow().needle.clone();
                // A reservation names its buyer twice: as an argument, and in the packed ticket. A look-up once.
                holding |= needle.is_some_and(|needle| count(&asked[..read], needle.as_bytes()) >= 2);
                server.write_all(&asked[..read]).await?;
            }
            read = server.read(&mut answered) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                // An error, such as NOSCRIPT: it has not run, and is sent again.
                if answered[0] != b'-' && std::mem::take(&mut holding) {
                    hold.send_modify(|hold| hold.held += 1);
                    let _ = hold.subscribe().wait_for(|hold| hold.needle.is_none()).await;
                    let passed = client.write_all(&answered[..read]).await;
                    hold.send_modify(|hold| hold.held -= 1);
                    passed?;
                } else {
                    client.write_all(&answered[..read]).await?;
                }
            }
        }
    }
}

fn count(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).filter(|window| *window == needle).count()
}
