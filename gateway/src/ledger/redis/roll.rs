//! Whose logs make up the ledger, as this gateway's own log tells: it holds when Redis has forgotten.

use crate::pipeline::Membership;
use std::collections::BTreeMap;
use tidegate_stock::redis::ops::Fleet;

/// Gateways, each with the last word on it and the time of that word, by the clock of Redis.
#[derive(Debug, Default)]
pub(super) struct Roll(BTreeMap<String, (Membership, u64)>);

impl Roll {
    /// A record of the log, in the log's order.
    pub(super) fn note(&mut self, gateway: String, membership: Membership, at_ms: u64) {
        self.0.insert(gateway, (membership, at_ms));
    }

    /// Those whose logs a recovery needs.
    pub(super) fn members(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|(_, (membership, _))| *membership == Membership::Joined).map(|(id, _)| id)
    }

    /// Those that an operator has given up, and when.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = (String, u64)> {
        let gone = self.0.iter().filter(|(_, (membership, _))| *membership == Membership::Forgotten);
        gone.map(|(id, (_, since))| (id.clone(), *since))
    }

    /// Whether it is a member.
    pub(super) fn is_member(&self, gateway: &str) -> bool {
        self.0.get(gateway).is_some_and(|(membership, _)| *membership == Membership::Joined)
    }

    /// What a heartbeat told that the log does not hold yet. Later words count: a gateway that was forgotten and came
    /// back is a member, and the old word that Redis is told of it is old.
    pub(super) fn missing(&self, fleet: &Fleet) -> Vec<(String, Membership, u64)> {
        let joined = |gateway: &&String| !self.is_member(gateway);
        let members: &[String] = if fleet.member { &fleet.members } else { &[] };
        let mut missing: Vec<(String, Membership, u64)> = fleet
            .newcomers
            .iter()
            .chain(members)
            .filter(joined)
            .map(|gateway| (gateway.clone(), Membership::Joined, fleet.now_ms))
            .collect();
        missing.sort_by(|a, b| a.0.cmp(&b.0));
        missing.dedup_by(|a, b| a.0 == b.0);
        for (gateway, since) in &fleet.forgotten {
            let older =
                |&(membership, at_ms): &(Membership, u64)| membership == Membership::Joined && at_ms < *since;
            if self.0.get(gateway).is_none_or(older) {
                missing.push((gateway.clone(), Membership::Forgotten, *since));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roll(words: &[(&str, Membership, u64)]) -> Roll {
        let mut roll = Roll::default();
        for &(gateway, membership, at_ms) in words {
            roll.note(gateway.to_owned(), membership, at_ms);
        }
        roll
    }

    #[test]
    fn the_later_word_counts() {
        let told = |forgotten: u64| Fleet {
            member: true,
            members: vec!["a".to_owned()],
            forgotten: vec![("b".to_owned(), forgotten)],
            now_ms: 100,
            ..Fleet::default()
        };
        let known = roll(&[("a", Membership::Joined, 1), ("b", Membership::Joined, 50)]);
        assert_eq!(known.missing(&told(60)), [("b".to_owned(), Membership::Forgotten, 60)]);
        assert_eq!(known.missing(&told(40)), [], "it has come back since");
        let forgotten = roll(&[("a", Membership::Joined, 1), ("b", Membership::Forgotten, 60)]);
        assert_eq!(forgotten.missing(&told(60)), []);
        assert_eq!(forgotten.members().collect::<Vec<_>>(), ["a"]);
        assert_eq!(forgotten.forgotten().collect::<Vec<_>>(), [("b".to_owned(), 60)]);
    }

    #[test]
    fn who_joins_again_is_recorded_again() {
        let known = roll(&[("b", Membership::Joined, 1), ("b", Membership::Forgotten, 60)]);
        let told = Fleet { newcomers: vec!["b".to_owned()], now_ms: 100, ..Fleet::default() };
        assert_eq!(known.missing(&told), [("b".to_owned(), Membership::Joined, 100)]);
        let of_others = Fleet { members: vec!["c".to_owned()], ..told };
        assert_eq!(known.missing(&of_others).len(), 1, "members are recorded by members");
    }
}
