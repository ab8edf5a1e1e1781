//! What the gate shares beside the ledger: who is banned. Texts in and out; what they mean is the gate's.

use super::Ops;
use crate::redis::keys::SCHEMA;
use crate::redis::link::Script;
use crate::redis::ops::OpError;
use crate::redis::reply::Reply;

static BANS: Script = Script::new("bans", include_str!("../../../../lua/gate/bans.lua"));

/// All bans, and under which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bans {
    /// Names this state of the list.
    pub version: String,
    /// Client and ban.
    pub bans: Vec<(String, String)>,
}

impl Ops {
    /// The bans, unless `known` is their version. Reads only.
    pub async fn read_bans(&self, known: &str) -> Result<Option<Bans>, OpError> {
        let value = self.bans(&[b"read", known.as_bytes()]).await?;
        let reply = Reply::new(BANS.name(), &value);
        if reply.is_nil() {
            return Ok(None);
        }
        let mut list = reply.list()?;
        let version = list.next()?.text()?.to_owned();
        let mut pairs = list.next()?.list()?;
        let mut bans = Vec::new();
        while !pairs.is_over() {
            let (client, ban) = (pairs.next()?.text()?, pairs.next()?.text()?);
            if client != "#" {
                bans.push((client.to_owned(), ban.to_owned()));
            }
        }
        Ok(Some(Bans { version, bans }))
    }

    /// Puts a ban in place of the client's earlier one. `false`: `most` are there; nothing was done. May be repeated.
    pub async fn put_ban(&self, client: &str, ban: &str, most: usize) -> Result<bool, OpError> {
        let most = most.to_string();
        let value = self.bans(&[b"put", client.as_bytes(), ban.as_bytes(), most.as_bytes()]).await?;
        Ok(Reply::new(BANS.name(), &value).int()? == 1)
    }

    /// Removes a ban; whether it was there. May be repeated.
    pub async fn remove_ban(&self, client: &str) -> Result<bool, OpError> {
        let value = self.bans(&[b"remove", client.as_bytes()]).await?;
        Ok(Reply::new(BANS.name(), &value).int()? == 1)
    }

    async fn bans(&self, args: &[&[u8]]) -> Result<redis::Value, OpError> {
        let key = format!("{}{SCHEMA}:{{gate}}:bans", self.options.prefix);
        Ok(self.link.script(&BANS, None, &[&key], args).await?)
    }
}
