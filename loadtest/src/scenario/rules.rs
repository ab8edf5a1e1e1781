//! Which values of a scenario make no sense.

use super::{AppendOnly, Scenario};

impl Scenario {
    /// The first value that makes no sense, if any.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let b = &self.buyers;
        let shares = [
            b.press_twice_share,
            b.cheat_share,
            b.come_back_share,
            b.poll_share,
            self.workers.never_pay_share,
        ];
        let name_fits = !self.name.is_empty()
            && self.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        [
            (name_fits, "name: lower-case letters, digits and `-` only (it becomes part of the sale's id)"),
            (shares.iter().all(|share| (0.0..=1.0).contains(share)), "a share lies between 0 and 1"),
            (b.press_twice_share + b.cheat_share <= 1.0, "press_twice_share + cheat_share is at most 1"),
            (b.count > 0, "buyers.count is at least 1"),
            (self.sale.stock > 0, "sale.stock is at least 1"),
            (self.sale.per_buyer_limit > 0, "sale.per_buyer_limit is at least 1"),
            (b.come_back_after_ms > 0, "buyers.come_back_after_ms is at least 1"),
            (
                self.workers.count > 0 && self.workers.concurrency > 0,
                "workers: count and concurrency are at least 1",
            ),
            (
                self.workers.pay_after_ms[0] <= self.workers.pay_after_ms[1],
                "workers.pay_after_ms is [from, to]",
            ),
            (
                self.overload.is_none_or(|o| {
                    o.slower_at_ms > o.settle_ms
                        && o.until_ms > o.slower_at_ms + o.settle_ms
                        && o.slower_times >= 1.0
                }),
                "overload: settle_ms < slower_at_ms, slower_at_ms + settle_ms < until_ms, slower_times at least 1",
            ),
            (self.generator.connections > 0, "generator.connections is at least 1"),
            (self.gateway.tokens.is_none_or(|t| t.rate_per_s > 0), "gateway.tokens.rate_per_s is at least 1"),
        ]
        .into_iter()
        .chain(self.fleet_rules())
        .chain(self.abusers.iter().flat_map(super::Abusers::rules))
        .find_map(|(holds, what)| (!holds).then_some(what))
        .or_else(|| self.proxy.as_ref().and_then(super::Proxy::fault))
    }

    /// What must be of gateways, Redis and faults.
    fn fleet_rules(&self) -> [(bool, &'static str); 14] {
        let (count, f) = (self.gateway.count as usize, &self.faults);
        let redis_faults = f.kill_redis.is_some() || f.empty_redis.is_some() || f.failover.is_some();
        let sentinel = self.redis.as_ref().is_some_and(|redis| redis.sentinel);
        let none = self.redis.as_ref().is_some_and(|redis| redis.appendonly == AppendOnly::None);
        let seats = [f.kill.map(|kill| kill.gateway), f.stop_gateway.map(|stop| stop.gateway)];
        let shares = f.timed();
        [
            (count > 0, "gateway.count is at least 1"),
            (count == 1 || self.redis.is_some(), "gateway.count above 1 needs a section [redis]"),
            (
                count == 1 || self.gateway.tokens.is_none(),
                "gateway.tokens bounds one gateway alone: it needs gateway.count = 1",
            ),
            (
                count == 1 || self.proxy.is_none(),
                "proxy bounds one gateway alone: it needs gateway.count = 1",
            ),
            (!redis_faults || self.redis.is_some(), "faults of Redis need a section [redis]"),
            (f.failover.is_none() || sentinel, "faults.failover needs redis.sentinel = true"),
            (
                !sentinel || (f.kill_redis.is_none() && f.empty_redis.is_none()),
                "with redis.sentinel = true use faults.failover: a killed master does not come back",
            ),
            (
                f.kill_redis.is_none() || !none,
                "faults.kill_redis needs an append-only file to come back with; faults.empty_redis does not",
            ),
            (
                seats.into_iter().flatten().all(|seat| seat < count),
                "a fault's gateway is below gateway.count",
            ),
            (
                f.kill.is_none_or(|kill| !kill.delete_data || count > 1),
                "faults.kill.delete_data needs another gateway that goes on",
            ),
            (
                f.kill.is_none_or(|kill| !kill.replace || kill.delete_data),
                "faults.kill.replace goes with delete_data = true",
            ),
            (
                f.kill_worker.is_none_or(|kill| {
                    kill.worker < self.workers.count as usize
                        && kill.pending_min <= self.workers.concurrency.into()
                }),
                "faults.kill_worker: worker is below workers.count, pending_min at most workers.concurrency",
            ),
            (
                shares.iter().all(|timed| timed.share[0] <= timed.share[1] && timed.share[1] < 1.0),
                "after_sold_share is [from, to], below 1",
            ),
            (
                f.kill.is_none() || f.stop_gateway.is_none() || seats[0] != seats[1],
                "faults.kill and faults.stop_gateway take different gateways",
            ),
        ]
    }
}
