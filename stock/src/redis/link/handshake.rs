//! The check of every fresh connection, before anything else is sent on it.
//!
//! One round trip: AUTH and SELECT as configured, then INFO. CONFIG is not asked: managed Redis forbids it.

use super::info::Info;
use super::lineage::Lineage;
use super::reply::{error_text, read_replies, send, text_of};
use super::stream::Stream;
use crate::redis::options::{RedisOptions, Topology};
use redis::{Cmd, Value};

/// Oldest release whose scripts and INFO are known to be enough.
const OLDEST: u32 = 7;

/// Which role a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Calls and subscriptions: the master only.
    Master,
    /// Questions on the topology of a Cluster: any node.
    AnyRole,
}

/// Logs in and checks who answers. The error says what is wrong and what to do, without the address.
/// Cancelled: the stream is in an unknown state and must be dropped.
pub(super) async fn handshake(
    stream: &mut Stream,
    options: &RedisOptions,
    wanted: Wanted,
) -> Result<Lineage, String> {
    let mut out = Vec::with_capacity(256);
    let auth = auth(options.user.as_deref(), options.password.as_ref().map(|p| &*p.0));
    if let Some(auth) = &auth {
        auth.write_packed_command(&mut out);
    }
    if options.database != 0 {
        Cmd::new().arg("SELECT").arg(options.database).write_packed_command(&mut out);
    }
    let sections = ["server", "replication", "memory"];
    for section in sections {
        Cmd::new().arg("INFO").arg(section).write_packed_command(&mut out);
    }
    send(stream, &out).await.map_err(|e| format!("connection lost during the handshake: {e}"))?;
    let select = options.database != 0;
    let count = usize::from(auth.is_some()) + usize::from(select) + sections.len();
    let mut replies = read_replies(stream, count).await?;
    if auth.is_some() {
        succeeded(replies.pop_front()).map_err(|e| {
            format!("login refused: {e}; check user and password_file, and the user's ACL in Redis")
        })?;
    }
    if select {
        succeeded(replies.pop_front())
            .map_err(|e| format!("database {} refused: {e}; set another `database`", options.database))?;
    }
    let mut text = String::new();
    for reply in &replies {
        let part = text_of(reply).map_err(|e| {
            format!("INFO refused: {e}; set the password of Redis, or give the user the right +info")
        })?;
        text.push_str(part);
        text.push('\n');
    }
    check(&Info(&text), options, wanted)
}

/// The AUTH command, if anything is to be said.
pub(super) fn auth(user: Option<&str>, password: Option<&str>) -> Option<Cmd> {
    let password = password?;
    let mut cmd = Cmd::new();
    cmd.arg("AUTH");
    if let Some(user) = user {
        cmd.arg(user);
    }
    cmd.arg(password);
    Some(cmd)
}

fn succeeded(reply: Option<Value>) -> Result<(), String> {
    match reply {
        Some(Value::ServerError(error)) => Err(error_text(&error)),
        _ => Ok(()),
    }
}

fn check(info: &Info<'_>, options: &RedisOptions, wanted: Wanted) -> Result<Lineage, String> {
    let version = info.get("redis_version").unwrap_or("unknown");
    let major: u32 = version.split('.').next().and_then(|v| v.parse().ok()).unwrap_or(0);
    if major < OLDEST {
        return Err(format!(
            "its version is {version}, needed is {OLDEST}.0 or newer (or Valkey); upgrade it"
        ));
    }
    let cluster = matches!(options.topology, Topology::Cluster(_));
    match info.get("redis_mode") {
        Some("sentinel") => {
            return Err(
                "it is a Sentinel, not the server that keeps the data; list it under `sentinels`".into()
            );
        }
        Some("cluster") if !cluster => {
            return Err("it is a node of a Cluster; list the nodes under `cluster`".into());
        }
        Some("standalone") if cluster => {
            return Err("it is not a node of a Cluster; give it as `url` instead".into());
        }
        _ => {}
    }
    if wanted == Wanted::Master {
        let role = info.get("role").unwrap_or("unknown");
        if role != "master" {
            return Err(format!(
                "its role is {role}, not master: what is written here is lost; set `url` to the master's address, or use `sentinels`"
            ));
        }
        if !options.allow_eviction {
            check_eviction(info)?;
        }
    }
    Lineage::of(info).ok_or_else(|| {
        "INFO tells no run_id, so a restart that lost data could not be noticed; use a Redis that does".into()
    })
}

fn check_eviction(info: &Info<'_>) -> Result<(), String> {
    match (info.get("maxmemory_policy"), info.get("maxmemory")) {
        (Some("noeviction"), _) | (_, Some("0")) => Ok(()),
        (Some(policy), limit) => Err(format!(
            "it may evict keys (maxmemory-policy {policy}, maxmemory {}), and an evicted key is lost stock; \
             set maxmemory-policy noeviction",
            limit.unwrap_or("not told")
        )),
        (None, _) => Err(
            "it does not tell its maxmemory-policy, so it may evict keys, and an evicted key is lost stock; \
             make sure of noeviction, then set allow_eviction = true"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\nrole:master\r\n\
        master_replid:1234\r\nmaster_replid2:0000\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";

    fn with(from: &str, to: &str) -> Result<Lineage, String> {
        let options = RedisOptions::single("127.0.0.1", 1);
        check(&Info(&GOOD.replace(from, to)), &options, Wanted::Master)
    }

    #[test]
    fn what_is_taken_and_what_is_not() {
        assert_eq!(with("", "").unwrap(), Lineage("abc".into()));
        assert!(with("7.0.15", "6.2.14").unwrap_err().contains("6.2.14"));
        assert!(with("role:master", "role:slave").unwrap_err().contains("role is slave"));
        assert!(with("standalone", "cluster").unwrap_err().contains("`cluster`"));
        assert!(with("standalone", "sentinel").unwrap_err().contains("`sentinels`"));
        assert!(with("run_id:abc\r\n", "").unwrap_err().contains("run_id"));
        let evicts = with("maxmemory:0", "maxmemory:100").unwrap_err();
        assert!(
            evicts.contains("allkeys-lru") && evicts.contains("set maxmemory-policy noeviction"),
            "{evicts}"
        );
        assert!(
            with("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", "")
                .unwrap_err()
                .contains("does not tell")
        );
    }

    #[test]
    fn a_first_replica_changes_no_lineage_but_a_promotion_does() {
        assert_eq!(with("master_replid:1234", "master_replid:9999").unwrap(), Lineage("abc".into()));
        assert_eq!(with("master_replid2:0000", "master_replid2:1234").unwrap(), Lineage("abc/1234".into()));
    }
}
