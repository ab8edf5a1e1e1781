//! Asks the Sentinels who is master.

use super::connector::{Checked, Connector};
use super::handshake::{Wanted, auth};
use super::reply::{self, error_text, text_of};
use super::stream;
use crate::redis::options::{Address, Password, Topology};
use redis::{Cmd, Value};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::timeout;

/// Which Sentinel answered last: it is asked first.
#[derive(Debug, Default)]
pub(super) struct Sentinels {
    last: AtomicUsize,
}

impl Sentinels {
    /// Asks in turn, and connects to the first master named that says itself that it is one.
    pub(super) async fn open_master(&self, connector: &Connector) -> Result<Checked, String> {
        let Topology::Sentinel { sentinels, master, password } = &connector.options.topology else {
            return Err("no Sentinels are configured".into());
        };
        let share = connector.options.connect_timeout / (sentinels.len() as u32 + 1);
        let first = self.last.load(Ordering::Relaxed);
        let mut why = String::from("none is configured");
        for turn in 0..sentinels.len() {
            let index = (first + turn) % sentinels.len();
            let sentinel = &sentinels[index];
            let asked = async {
                let address = ask(connector, sentinel, master, password.as_ref()).await?;
                connector.open_node(&address, Wanted::Master).await
            };
            match timeout(share, asked).await {
                Ok(Ok(checked)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(checked);
                }
                Ok(Err(error)) => why = error,
                Err(_) => {
                    why = format!(
                        "Sentinel {sentinel}, or the master it names, did not answer within {share:?}"
                    );
                }
            }
        }
        Err(format!("no master `{master}` was found: {why}; check the Sentinels, and the name of the master"))
    }
}

async fn ask(
    connector: &Connector,
    sentinel: &Address,
    master: &str,
    password: Option<&Password>,
) -> Result<Address, String> {
    let asked = async {
        let mut stream = stream::connect(sentinel, connector.options.tls.as_ref()).await?;
        if let Some(auth) = auth(None, password.map(|p| &*p.0)) {
            text_of(&reply::ask(&mut stream, &auth).await?).map_err(|e| format!("login refused: {e}"))?;
        }
        let mut command = Cmd::new();
        command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        match reply::ask(&mut stream, &command).await? {
            Value::Array(parts) => match parts.as_slice() {
                [host, port] => {
                    let port = text_of(port)?.parse().map_err(|_| "it told no port".to_owned())?;
                    Ok(Address { host: text_of(host)?.to_owned(), port })
                }
                _ => Err("it told no address".to_owned()),
            },
            Value::Nil => Err(format!("it knows no master `{master}`")),
            Value::ServerError(error) => Err(error_text(&error)),
            _ => Err("it told no address".to_owned()),
        }
    };
    asked.await.map_err(|why: String| format!("Sentinel {sentinel}: {why}"))
}
