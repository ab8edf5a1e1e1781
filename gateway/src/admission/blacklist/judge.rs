//! Who is banned for what the cores reported. It would rather let a few bad ones through than hit a good one:
//!
//! * A **buyer** is banned for going on in spite of their quota: so many refused requests within a window. Nobody does that by
//!   hand, and the id is proven, so it hits nobody else.
//! * An **address** is banned for strangers who never come back. Many requests, or many buyers, are no reason: a NAT has
//!   both. Of the names that an address brought in a window and that were asked to come back, hardly one did, although
//!   they had the time and there was still something to win. One abuser among good buyers behind a NAT bans nobody.
//! * The first ban is short; each further one takes twice as long.
//!
//! Pure: reports and time in, sentences out. Its tables are bounded; what does not fit is not judged.

use super::client::Client;
use super::strikes::Strike;
use crate::config::Blacklist as Settings;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::time::Duration;

/// A window, at least: so long, and up to twice, has a stranger time to come back.
const WINDOW_MIN: Duration = Duration::from_secs(3);
/// The window, in waits that strangers are asked for.
const WAITS: u32 = 3;
/// Of the strangers asked, one in so many must come back.
const ONE_IN: u64 = 10;
/// Clients judged in a window, of each kind.
const CLIENTS_MAX: usize = 65_536;

/// Who is to be banned, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Whom.
    pub client: Client,
    /// For people.
    pub reason: String,
}

/// Strangers of one address before one sale.
#[derive(Debug, Clone, Copy, Default)]
struct Strangers {
    asked: u64,
    kept: u64,
}

type ByAddress = HashMap<(u64, u64), Strangers, RandomState>;

/// What it has heard of late.
#[derive(Debug, Default)]
pub struct Judge {
    refused: HashMap<Box<str>, u64, RandomState>,
    strangers: ByAddress,
    /// Of the window before: those have had their time by now.
    before: ByAddress,
    window_ends_ms: u64,
}

impl Judge {
    /// Hears reports, and at the end of a window judges. `wait`: what strangers are asked for. `selling`: whether the
    /// sale of this hash has something to win; who does not come back to one that has nothing is no abuser.
    pub fn hear(
        &mut self,
        strikes: Vec<Strike>,
        now_ms: u64,
        settings: &Settings,
        wait: Duration,
        selling: impl Fn(u64) -> bool,
    ) -> Vec<Sentence> {
        for strike in strikes {
            self.note(strike);
        }
        if now_ms < self.window_ends_ms {
            return Vec::new();
        }
        let window = WINDOW_MIN.max(wait * WAITS);
        self.window_ends_ms = now_ms + window.as_millis() as u64;
        let now = std::mem::take(&mut self.strangers);
        let before = std::mem::replace(&mut self.before, now);
        let mut sentences = Vec::new();
        for ((network, sale), strangers) in before {
            let later = self.before.get(&(network, sale)).map_or(0, |later| later.kept);
            let (asked, kept) = (strangers.asked, strangers.kept + later);
            if asked >= settings.strangers && kept * ONE_IN < asked && selling(sale) {
                let client = Client::of_network(network);
                let reason = format!("{asked} new buyers were asked to come back, {kept} did");
                sentences.push(Sentence { client, reason });
            }
        }
        for (buyer, refused) in self.refused.drain() {
            if refused >= settings.refusals {
                let reason = format!("{refused} requests within {} s beyond the quota", window.as_secs());
                sentences.push(Sentence { client: Client::Buyer(buyer), reason });
            }
        }
        sentences
    }

    fn note(&mut self, strike: Strike) {
        match strike {
            Strike::Refused(buyer) => {
                if self.refused.len() < CLIENTS_MAX || self.refused.contains_key(&buyer) {
                    *self.refused.entry(buyer).or_default() += 1;
                }
            }
            Strike::Asked { network, sale } => self.of(network, sale, |strangers| strangers.asked += 1),
            Strike::Kept { network, sale } => self.of(network, sale, |strangers| strangers.kept += 1),
        }
    }

    fn of(&mut self, network: u64, sale: u64, count: impl FnOnce(&mut Strangers)) {
        if self.strangers.len() < CLIENTS_MAX || self.strangers.contains_key(&(network, sale)) {
            count(self.strangers.entry((network, sale)).or_default());
        }
    }
}

/// How long a ban takes: the first is short, each further one takes twice as long.
pub fn ban_ms(times: u32, settings: &Settings) -> u64 {
    let factor = 1_u64 << times.saturating_sub(1).min(32);
    settings.ban_ms.saturating_mul(factor).min(settings.ban_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        enabled: true,
        refusals: 100,
        strangers: 100,
        ban_ms: 60_000,
        ban_max_ms: 3_600_000,
        bans_max: 10,
    };
    const WAIT: Duration = Duration::from_secs(1);
    const NAT: u64 = 0xC633_6407;

    fn asked(count: usize) -> Vec<Strike> {
        vec![Strike::Asked { network: NAT, sale: 1 }; count]
    }

    fn kept(count: usize) -> Vec<Strike> {
        vec![Strike::Kept { network: NAT, sale: 1 }; count]
    }

    /// Hears each of these at the end of a window; answers whom it banned.
    fn banned(windows: impl IntoIterator<Item = Vec<Strike>>, selling: bool) -> Vec<String> {
        let mut judge = Judge::default();
        let mut banned = Vec::new();
        for (window, strikes) in windows.into_iter().enumerate() {
            let now_ms = 3_000 * window as u64;
            let sentences = judge.hear(strikes, now_ms, &SETTINGS, WAIT, |_| selling);
            banned.extend(sentences.into_iter().map(|sentence| sentence.client.to_string()));
        }
        banned
    }

    #[test]
    fn an_address_whose_strangers_never_come_back_is_banned_once_they_had_the_time() {
        assert!(banned([asked(500)], true).is_empty(), "not before");
        assert_eq!(banned([asked(500), Vec::new()], true), ["ip:198.51.100.7"]);
        assert_eq!(banned([asked(500), kept(10)], true), ["ip:198.51.100.7"]);
        assert!(banned([asked(99), Vec::new()], true).is_empty(), "too few to tell");
    }

    #[test]
    fn a_nat_is_not_banned_however_many_come_nor_for_one_abuser_in_it() {
        assert!(banned([asked(4_000), kept(3_500)], true).is_empty());
        assert!(banned([[asked(2_000), kept(100)].concat(), kept(120)], true).is_empty());
    }

    #[test]
    fn nobody_is_banned_for_not_coming_back_to_a_sale_that_is_over() {
        assert!(banned([asked(500), Vec::new()], false).is_empty());
    }

    #[test]
    fn a_buyer_who_goes_on_in_spite_of_their_quota_is_banned() {
        let refused = |count| vec![Strike::Refused("pest".into()); count];
        assert_eq!(banned([refused(100)], true), ["buyer:pest"]);
        assert!(banned([refused(60), refused(60)], true).is_empty(), "not that often in one window");
    }

    #[test]
    fn fm27_its_tables_are_bounded() {
        let mut judge = Judge { window_ends_ms: u64::MAX, ..Judge::default() };
        for n in 0..200_000_u64 {
            let strikes = vec![Strike::Refused(n.to_string().into()), Strike::Asked { network: n, sale: 1 }];
            judge.hear(strikes, 0, &SETTINGS, WAIT, |_| true);
        }
        assert_eq!((judge.refused.len(), judge.strangers.len()), (CLIENTS_MAX, CLIENTS_MAX));
    }

    #[test]
    fn each_further_ban_takes_twice_as_long_up_to_a_bound() {
        let told = [1, 2, 3, 7, 40].map(|times| ban_ms(times, &SETTINGS));
        assert_eq!(told, [60_000, 120_000, 240_000, 3_600_000, 3_600_000]);
    }
}
