//! stub
use crate::redis::options::RedisOptions;
use redis::{Cmd, Value, aio::MultiplexedConnection};
use std::rc::Rc;
use std::sync::Arc;
/// x
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lineage(pub Arc<str>);
/// x
pub struct Script {
    name: &'static str,
    text: String,
    sha: String,
}
impl Script {
    /// x
    pub fn new(name: &'static str, text: &str) -> Self {
        let s = redis::Script::new(text);
        Self { name, text: text.to_owned(), sha: s.get_hash().to_owned() }
    }
}
/// x
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// x
    #[error("{0}")]
    Unavailable(String),
    /// x
    #[error("{0}")]
    Unknown(String),
    /// x
    #[error("lineage")]
    LineageChanged {
        /// x
        now: Lineage,
    },
    /// x
    #[error("{0}")]
    Refused(String),
}
/// x
#[derive(Clone)]
pub struct Link {
    o: Arc<RedisOptions>,
    c: Rc<tokio::sync::OnceCell<(MultiplexedConnection, Lineage)>>,
}
impl Link {
    /// x
    pub fn new(o: Arc<RedisOptions>) -> Self {
        Self { o, c: Rc::default() }
    }
    async fn get(&self) -> Result<(MultiplexedConnection, Lineage), CallError> {
        self.c
            .get_or_try_init(|| async {
                let crate::redis::Topology::Single(a) = &self.o.topology else { panic!() };
                let mut c = redis::Client::open(format!("redis://{a}/"))
                    .unwrap()
                    .get_multiplexed_async_connection()
                    .await
                    .map_err(|e| CallError::Unavailable(e.to_string()))?;
                let info: String = redis::cmd("INFO")
                    .arg("server")
                    .query_async(&mut c)
                    .await
                    .map_err(|e| CallError::Unavailable(e.to_string()))?;
                let id = info.lines().find_map(|l| l.strip_prefix("run_id:")).unwrap().trim().to_owned();
                Ok((c, Lineage(id.into())))
            })
            .await
            .cloned()
    }
    /// x
    pub async fn lineage(&self, _key: &str) -> Result<Lineage, CallError> {
        Ok(self.get().await?.1)
    }
    /// x
    pub async fn script(
        &self,
        s: &Script,
        _e: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        let (mut c, _) = self.get().await?;
        let build = |verb: &str, head: &str| {
            let mut cmd = redis::cmd(verb);
            cmd.arg(head).arg(keys.len());
            for k in keys {
                cmd.arg(k);
            }
            for a in args {
                cmd.arg(a);
            }
            cmd
        };
        match c.send_packed_command(&build("EVALSHA", &s.sha)).await.and_then(Value::extract_error) {
            Ok(v) => Ok(v),
            Err(e) if e.to_string().contains("NOSCRIPT") || e.to_string().contains("NoScript") => c
                .send_packed_command(&build("EVAL", &s.text))
                .await
                .and_then(Value::extract_error)
                .map_err(|e| CallError::Refused(format!("{}: {e}", s.name))),
            Err(e) => Err(CallError::Refused(format!("{}: {e}", s.name))),
        }
    }
    /// x
    pub async fn script_replicated(
        &self,
        s: &Script,
        e: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        self.script(s, e, keys, args).await
    }
    /// x
    pub async fn command(&self, _k: &str, _e: Option<&Lineage>, cmd: &Cmd) -> Result<Value, CallError> {
        let (mut c, _) = self.get().await?;
        c.send_packed_command(cmd).await.map_err(|e| CallError::Refused(e.to_string()))
    }
}
