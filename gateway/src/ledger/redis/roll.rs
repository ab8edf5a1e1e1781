//! Whose logs make up the ledger, as this gateway's own log tells: it holds when Redis has forgotten.

use crate::pipeline::{MemberWord, Membership};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tidegate_stock::redis::ops::{Fleet, Newest, Seen};

/// Gateways, each with the last word on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Roll {
    words: BTreeMap<String, (Membership, u64)>,
    /// Numbers of processes. Of this gateway itself: whatever they wrote is in this log. Of another one: they were there.
    processes: BTreeMap<String, BTreeSet<u64>>,
    /// How far the log of another one's process was when it was last heard of; in no log.
    #[serde(skip)]
    heard: BTreeMap<String, Newest>,
}

impl Roll {
    /// A record of the log, in the log's order.
    pub(super) fn note(&mut self, word: MemberWord) {
        if word.process > 0 {
            self.processes.entry(word.gateway.clone()).or_default().insert(word.process);
        }
        self.words.insert(word.gateway, (word.membership, word.at_ms));
    }

    /// Those whose logs a recovery needs.
    pub(super) fn members(&self) -> impl Iterator<Item = &String> {
        self.words.iter().filter(|(_, (membership, _))| *membership == Membership::Joined).map(|(id, _)| id)
    }

    /// Those that an operator has given up, and when.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = (String, u64)> {
        let gone = self.words.iter().filter(|(_, (membership, _))| *membership == Membership::Forgotten);
        gone.map(|(id, (_, since))| (id.clone(), *since))
    }

    /// Whether it is a member.
    pub(super) fn is_member(&self, gateway: &str) -> bool {
        self.words.get(gateway).is_some_and(|(membership, _)| *membership == Membership::Joined)
    }

    /// Numbers of a gateway's processes.
    pub(super) fn processes_of(&self, gateway: &str) -> BTreeSet<u64> {
        self.processes.get(gateway).cloned().unwrap_or_default()
    }

    /// Of each gateway the newest process, for a Redis that has lost it.
    pub(super) fn newest_processes(&self) -> impl Iterator<Item = (String, Newest)> {
        self.processes.keys().map(|id| {
            let process = self.newest_of(id);
            let heard = self.heard.get(id).filter(|heard| heard.process == process);
            (id.clone(), heard.copied().unwrap_or(Newest { process, log_end: 0 }))
        })
    }

    fn newest_of(&self, gateway: &str) -> u64 {
        self.processes.get(gateway).and_then(|numbers| numbers.last()).copied().unwrap_or_default()
    }

    /// Remembers how far the logs of those are whose processes this log knows.
    pub(super) fn hear(&mut self, fleet: &Fleet) {
        for Seen { gateway, newest, .. } in &fleet.seen {
            if newest.process > 0 && newest.process == self.newest_of(gateway) {
                self.heard.insert(gateway.clone(), *newest);
            }
        }
    }

    /// Gateways under whose ids processes have beaten that may lack what this log knows to be written under them: old copies,
    /// or such that have not been asked yet.
    pub(super) fn doubted(&self, fleet: &Fleet, me: &str) -> Vec<String> {
        let doubted = fleet.seen.iter().filter(|seen| {
            let known = self.newest_of(&seen.gateway);
            let vouched = |confirmed| seen.newest.process == known || confirmed >= known;
            seen.gateway != me && known > 0 && !seen.confirmed.is_some_and(vouched)
        });
        doubted.map(|seen| seen.gateway.clone()).collect()
    }

    /// What a heartbeat told that the log of `me` does not hold yet. Later words count: a gateway that was forgotten and
    /// came back is a member, and the old word that Redis is told of it is old.
    pub(super) fn missing(&self, fleet: &Fleet, me: &str) -> Vec<MemberWord> {
        let members: &[String] = if fleet.member { &fleet.members } else { &[] };
        let known: BTreeSet<&String> = fleet.newcomers.iter().chain(members).collect();
        let mut missing = Vec::new();
        for gateway in known {
            let process =
                if gateway == me { 0 } else { self.new_process(fleet, gateway).unwrap_or_default() };
            if process > 0 || !self.is_member(gateway) {
                let (gateway, membership) = (gateway.clone(), Membership::Joined);
                missing.push(MemberWord { gateway, membership, at_ms: fleet.now_ms, process });
            }
        }
        for (gateway, since) in &fleet.forgotten {
            let older =
                |&(membership, at_ms): &(Membership, u64)| membership == Membership::Joined && at_ms < *since;
            if self.words.get(gateway).is_none_or(older) {
                let (gateway, membership) = (gateway.clone(), Membership::Forgotten);
                missing.push(MemberWord { gateway, membership, at_ms: *since, process: 0 });
            }
        }
        missing
    }

    /// A process that is new here. Not before its log is known to hold the one that this log knows: else the word of an
    /// old copy would stand against the folder that it was copied from.
    fn new_process(&self, fleet: &Fleet, gateway: &str) -> Option<u64> {
        let known = self.newest_of(gateway);
        let seen = fleet.seen.iter().find(|seen| seen.gateway == gateway)?;
        (seen.newest.process > known && seen.confirmed >= Some(known)).then_some(seen.newest.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn roll(words: &[(&str, Membership, u64)]) -> Roll {
        let mut roll = Roll::default();
        for &(gateway, membership, at_ms) in words {
            roll.note(word(gateway, membership, at_ms, 0));
        }
        roll
    }

    fn word(gateway: &str, membership: Membership, at_ms: u64, process: u64) -> MemberWord {
        MemberWord { gateway: gateway.to_owned(), membership, at_ms, process }
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
        assert_eq!(known.missing(&told(60), "me"), [word("b", Membership::Forgotten, 60, 0)]);
        assert_eq!(known.missing(&told(40), "me"), [], "it has come back since");
        let forgotten = roll(&[("a", Membership::Joined, 1), ("b", Membership::Forgotten, 60)]);
        assert_eq!(forgotten.missing(&told(60), "me"), []);
        assert_eq!(forgotten.members().collect::<Vec<_>>(), ["a"]);
        assert_eq!(forgotten.forgotten().collect::<Vec<_>>(), [("b".to_owned(), 60)]);
    }

    #[test]
    fn who_joins_again_is_recorded_again() {
        let known = roll(&[("b", Membership::Joined, 1), ("b", Membership::Forgotten, 60)]);
        let told = Fleet { newcomers: vec!["b".to_owned()], now_ms: 100, ..Fleet::default() };
        assert_eq!(known.missing(&told, "me"), [word("b", Membership::Joined, 100, 0)]);
        let of_others = Fleet { members: vec!["c".to_owned()], ..told };
        assert_eq!(known.missing(&of_others, "me").len(), 1, "members are recorded by members");
    }

    #[test]
    fn a_process_is_recorded_once_its_log_holds_the_one_before() {
        let told = |process, confirmed: u64| Fleet {
            member: true,
            members: vec!["b".to_owned(), "me".to_owned()],
            seen: ["b", "me"]
                .map(|id| Seen {
                    gateway: id.to_owned(),
                    tells: String::new(),
                    age: Duration::ZERO,
                    newest: Newest { process, log_end: 10 * process },
                    confirmed: Some(confirmed),
                })
                .into(),
            now_ms: 100,
            ..Fleet::default()
        };
        let mut roll = roll(&[("me", Membership::Joined, 1)]);
        assert_eq!(roll.missing(&told(7, 0), "me"), [word("b", Membership::Joined, 100, 7)], "but its own");
        roll.note(word("b", Membership::Joined, 100, 7));
        assert_eq!(roll.missing(&told(7, 0), "me"), []);
        assert_eq!(roll.missing(&told(9, 0), "me"), [], "perhaps an old copy");
        assert_eq!(roll.doubted(&told(9, 0), "me"), ["b"]);
        assert!(roll.doubted(&told(9, 7), "me").is_empty() && roll.doubted(&told(7, 0), "me").is_empty());
        assert_eq!(roll.missing(&told(9, 7), "me"), [word("b", Membership::Joined, 100, 9)]);
        let newest = |log_end| [("b".to_owned(), Newest { process: 7, log_end })];
        assert_eq!(roll.newest_processes().collect::<Vec<_>>(), newest(0));
        for heard in [7, 9] {
            roll.hear(&told(heard, 0));
            assert_eq!(roll.newest_processes().collect::<Vec<_>>(), newest(70));
        }
    }
}
