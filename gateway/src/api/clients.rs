//! Gates 4 and 5: what a client may do, whoever they are. Callable with no more than head and peer.

use crate::admission::blacklist::{Banned, Strike};
use crate::admission::{Left, QuotaKind, client_address};
use crate::http::{Answer, Refusal};
use crate::state::{Core, Live};
use http::HeaderMap;
use std::net::IpAddr;
use tidegate_stock::hash_of;

/// Gate 4, by network: before any work is spent on an identity.
pub(crate) fn address_not_banned(
    core: &Core,
    live: &Live,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<(), Refusal> {
    if !core.app.blacklist.has_networks() {
        return Ok(());
    }
    let address = client_address(headers, peer, live.config.identity.trusted_proxies());
    let banned = core.app.blacklist.address(address, &live.quotas.exempt, || core.app.clock.now_ms());
    banned.map_err(|Banned { retry_after }| Refusal::Blacklisted(retry_after))
}

/// Gate 4, by buyer: only whose identity is proven, or anybody could have anybody turned away.
pub(crate) fn buyer_not_banned(core: &Core, buyer: &str) -> Result<(), Refusal> {
    let banned = core.app.blacklist.buyer(buyer, || core.app.clock.now_ms());
    banned.map_err(|Banned { retry_after }| Refusal::Blacklisted(retry_after))
}

/// Gate 5: takes one request off the client's quotas. Answers what the buyer has left. `before`: the sale, or whatever else
/// the client wants.
pub(crate) fn within_quota(
    core: &Core,
    live: &Live,
    before: &str,
    buyer: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Option<Left>, Refusal> {
    let address = || client_address(headers, peer, live.config.identity.trusted_proxies());
    let report = |strike: &dyn Fn() -> Strike| {
        if live.config.blacklist.enabled {
            core.app.blacklist.strikes.report(core.index, strike);
        }
    };
    match live.quotas.check(buyer, address) {
        Ok(within) => {
            if let Some(network) = within.kept {
                report(&|| Strike::Kept { network, sale: hash_of(before) });
            }
            Ok(within.left)
        }
        Err(exceeded) => {
            match (exceeded.kind, exceeded.asked) {
                (QuotaKind::Buyer, _) => report(&|| Strike::Refused(buyer.into())),
                (QuotaKind::Newcomers, Some(network)) => {
                    report(&|| Strike::Asked { network, sale: hash_of(before) });
                }
                // A full address is no reason: many good ones may share it.
                (QuotaKind::Newcomers | QuotaKind::Ip, _) => {}
            }
            Err(Refusal::ClientQuota(exceeded))
        }
    }
}

/// A buyer who came before the sale opens is no stranger when it does. Only what the request claims: it is noted for this
/// address alone, so a false claim helps nobody else.
pub(super) fn came_early(core: &Core, refusal: &Refusal, headers: &HeaderMap, peer: IpAddr) {
    let Refusal::SaleNotOpen { .. } = refusal else { return };
    let live = core.live();
    if let Some(buyer) = live.identity.claimed(headers, peer) {
        live.quotas.seen(&buyer, || client_address(headers, peer, live.config.identity.trusted_proxies()));
    }
}

/// Adds what the buyer has left to an answer that tells of a ticket.
pub(super) fn with_left(mut answer: Answer, left: Option<Left>) -> Answer {
    if let Some(left) = left {
        left.tell(&mut answer);
    }
    answer
}
