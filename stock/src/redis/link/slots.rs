//! The slots of a Cluster and who owns them.

use super::connector::Checked;
use super::reply::{ask, error_text, text_of};
use crate::redis::options::Address;
use redis::{Cmd, Value};

/// Slots of every Cluster.
const SLOTS: usize = 16_384;
/// Owner of a slot that nobody owns.
const NOBODY: u16 = u16::MAX;

/// Slot of a key: of its hash tag, if it has one.
pub(super) fn slot_of(key: &str) -> u16 {
    let bytes = key.as_bytes();
    let tag = bytes.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &bytes[open + 1..];
        let close = rest.iter().position(|&b| b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(bytes)) % SLOTS as u16
}

/// Owner of each slot.
#[derive(Debug, Clone)]
pub(super) struct SlotMap {
    owners: Box<[u16]>,
    nodes: Vec<Address>,
}

impl SlotMap {
    fn empty() -> Self {
        Self { owners: vec![NOBODY; SLOTS].into_boxed_slice(), nodes: Vec::new() }
    }

    /// Address of the owner.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        self.nodes.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// All masters.
    pub(super) fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// Redis said that the slot moved there.
    pub(super) fn moved(&mut self, slot: u16, to: &Address) {
        let index = self.index(to);
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = index;
        }
    }

    fn index(&mut self, node: &Address) -> u16 {
        let found = self.nodes.iter().position(|known| known == node);
        let index = found.unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        });
        index as u16
    }
}

/// CLUSTER SLOTS.
pub(super) async fn ask_slots(node: &mut Checked) -> Result<SlotMap, String> {
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("SLOTS");
    let reply =
        ask(&mut node.stream, &command).await.map_err(|e| format!("Redis at {}: {e}", node.address))?;
    match reply {
        Value::Array(ranges) => {
            let mut map = SlotMap::empty();
            for range in &ranges {
                let (from, to, owner) = range_of(range, &node.address)
                    .ok_or_else(|| format!("Redis at {}: CLUSTER SLOTS is not understood", node.address))?;
                let index = map.index(&owner);
                map.owners[usize::from(from)..=usize::from(to)].fill(index);
            }
            if map.nodes.is_empty() {
                return Err(format!(
                    "Redis at {} knows no owner of any slot; is the Cluster made yet?",
                    node.address
                ));
            }
            Ok(map)
        }
        Value::ServerError(error) => {
            Err(format!("Redis at {}: CLUSTER SLOTS refused: {}", node.address, error_text(&error)))
        }
        _ => Err(format!("Redis at {}: CLUSTER SLOTS is not understood", node.address)),
    }
}

/// `[from, to, [host, port, …], replicas …]`
fn range_of(range: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = parts.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let (from, to) = (u16::try_from(*from).ok()?, u16::try_from(*to).ok()?);
    if from > to || usize::from(to) >= SLOTS {
        return None;
    }
    let host = match host {
        Value::Nil => "",
        host => text_of(host).ok()?,
    };
    Some((from, to, address(host, u16::try_from(*port).ok()?, asked)))
}

/// A node that does not know its own name leaves it out: it is the one that was asked.
fn address(host: &str, port: u16, asked: &Address) -> Address {
    let host = if host.is_empty() || host == "?" { &asked.host } else { host };
    Address { host: host.to_owned(), port }
}

/// `SLOT HOST:PORT` as in MOVED and ASK.
pub(super) fn redirect_of(details: &str, asked: &Address) -> Option<(u16, Address)> {
    let (slot, to) = details.split_once(' ')?;
    let (host, port) = to.trim().rsplit_once(':')?;
    Some((slot.parse().ok()?, address(host, port.parse().ok()?, asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // `redis-cli cluster keyslot KEY`
        assert_eq!(slot_of("123456789"), 12739);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("tidegate:{foo}:s"), 12182);
        assert_eq!(slot_of("{}foo"), crc16::State::<crc16::XMODEM>::calculate(b"{}foo") % 16384);
        assert_eq!(slot_of("a{foo"), crc16::State::<crc16::XMODEM>::calculate(b"a{foo") % 16384);
        assert_eq!(slot_of("{foo}{bar}"), 12182);
    }

    #[test]
    fn a_redirect_without_a_host_means_the_host_that_was_asked() {
        let asked = Address { host: "10.0.0.1".into(), port: 7000 };
        assert_eq!(
            redirect_of("3999 10.0.0.2:7001", &asked),
            Some((3999, Address { host: "10.0.0.2".into(), port: 7001 }))
        );
        assert_eq!(
            redirect_of("3999 :7001", &asked),
            Some((3999, Address { host: "10.0.0.1".into(), port: 7001 }))
        );
        assert_eq!(redirect_of("3999 ::1:7001", &asked).unwrap().1.host, "::1");
        assert_eq!(redirect_of("nonsense", &asked), None);
    }
}
