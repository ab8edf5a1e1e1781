//! A service behind the gateway: it never sees more than it stands, and everybody is told what became of their request.

use super::dossier::Dossier;
use super::tokens::worst_window;
use super::{Findings, Invariant};
use crate::evidence::ProxySaw;
use crate::scenario::Tokens;

/// So many times what the service stands must be offered, else the run shows nothing.
const OFFERED_FACTOR: f64 = 2.0;
/// … and of what the limit lets through this share must come, else the gateway simply refused.
const USED_SHARE: f64 = 0.8;

pub(super) fn invariants(dossier: &Dossier<'_>) -> Vec<Invariant> {
    let Some(saw) = &dossier.evidence.proxied else { return Vec::new() };
    vec![bounded(saw), answered(saw), conclusive(saw)]
}

/// In every window `[s, e]` at most `rate × (e − s) + burst` requests arrived, by the service's own clock.
fn bounded(saw: &ProxySaw) -> Invariant {
    let mut findings = Findings::default();
    let stands = Tokens {
        rate_per_s: saw.settings.upstream_rate_per_s,
        burst: saw.settings.upstream_burst,
        max_wait_ms: 0,
    };
    let arrivals: Vec<(u64, u64)> = saw.upstream.arrivals_us.iter().map(|at| (*at, *at)).collect();
    let worst = worst_window(&arrivals, stands);
    if let Some(window) = worst.filter(|window| window.excess > 0.0) {
        findings.add(|| {
            let ms = (window.until_us - window.from_us) as f64 / 1_000.0;
            let allowed = window.admitted as f64 - window.excess;
            format!("{} requests within {ms:.1} ms, at most {allowed:.1} allowed", window.admitted)
        });
    }
    if let Some(at_us) = saw.upstream.collapsed_us {
        findings.add(|| format!("it went down after {} ms", at_us / 1_000));
    }
    let room = worst.map_or(0.0, |window| -window.excess);
    let (rate, burst) = (stands.rate_per_s, stands.burst);
    let count = arrivals.len();
    findings.judge(
        "upstream_bounded",
        format!("{count} requests at a service that stands {rate}/s + {burst}; the fullest window had room for {room:.0} more"),
    )
}

/// Served, or refused with 429 and `Retry-After`; and what the service got is what clients had answered.
fn answered(saw: &ProxySaw) -> Invariant {
    let mut findings = Findings::default();
    let clients = &saw.clients;
    for other in &clients.others {
        findings.add(|| other.clone());
    }
    findings.require(clients.served + clients.refused + clients.others_count == clients.offered, || {
        format!("{} sent, {} served, {} refused", clients.offered, clients.served, clients.refused)
    });
    let arrivals = saw.upstream.arrivals_us.len() as u64;
    findings.require(clients.served == arrivals, || {
        format!("{arrivals} requests at the service, {} answers of it at the clients", clients.served)
    });
    let detail = format!("{} served, {} refused with 429 and Retry-After", clients.served, clients.refused);
    findings.judge("proxied_all_answered", detail)
}

fn conclusive(saw: &ProxySaw) -> Invariant {
    let mut findings = Findings::default();
    let settings = &saw.settings;
    let seconds = settings.for_ms as f64 / 1_000.0;
    let stands = settings.upstream_rate_per_s as f64 * seconds + settings.upstream_burst as f64;
    let offered = saw.clients.offered;
    findings.require(offered as f64 >= stands * OFFERED_FACTOR, || {
        format!("not conclusive: {offered} requests sent, the service stands {stands:.0}")
    });
    let arrivals = saw.upstream.arrivals_us.len();
    if let Some(limit) = settings.limit {
        let let_in = limit.rate_per_s as f64 * seconds;
        findings.require(arrivals as f64 >= let_in * USED_SHARE, || {
            format!("{arrivals} requests reached the service, the limit lets {let_in:.0} in")
        });
    }
    findings
        .judge("proxy_conclusive", format!("{offered} requests sent to a service that stands {stands:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{ClientsSaw, UpstreamSaw};
    use crate::scenario::{Limit, Proxy};

    fn saw(arrivals_us: Vec<u64>) -> ProxySaw {
        let served = arrivals_us.len() as u64;
        ProxySaw {
            settings: Proxy {
                upstream_rate_per_s: 100,
                upstream_burst: 10,
                service_ms: [1, 1],
                offered_per_s: 500,
                for_ms: 1_000,
                connections: 1,
                limit: Some(Limit { rate_per_s: 100, burst: 5, max_wait_ms: 0 }),
            },
            upstream: UpstreamSaw { arrivals_us, collapsed_us: None },
            clients: ClientsSaw { offered: 500, served, refused: 500 - served, ..ClientsSaw::default() },
        }
    }

    fn all_hold(saw: &ProxySaw) -> bool {
        [bounded(saw), answered(saw), conclusive(saw)].iter().all(|invariant| invariant.holds)
    }

    #[test]
    fn what_the_service_stands_passes_and_one_more_does_not() {
        let even: Vec<u64> = (0..100).map(|n| n * 10_000).collect();
        let burst =
            |count: u64| (0..count).map(|n| 500_000 + n).chain(even.iter().copied()).collect::<Vec<_>>();
        assert!(all_hold(&saw(even.clone())));
        let sorted = |mut all: Vec<u64>| {
            all.sort_unstable();
            all
        };
        assert!(bounded(&saw(sorted(burst(9)))).holds);
        assert!(!bounded(&saw(sorted(burst(11)))).holds);
        let mut down = saw(even);
        down.upstream.collapsed_us = Some(1);
        assert!(!bounded(&down).holds);
    }

    #[test]
    fn a_request_without_its_answer_is_found() {
        let sound = saw((0..100).map(|n| n * 10_000).collect());
        let mut lost = sound.clone();
        lost.clients.refused -= 1;
        assert!(!answered(&lost).holds);
        let mut strange = sound.clone();
        (strange.clients.refused, strange.clients.others_count) = (strange.clients.refused - 1, 1);
        strange.clients.others.push("502".to_owned());
        assert!(!answered(&strange).holds);
        let mut twice = sound.clone();
        twice.upstream.arrivals_us.push(2_000_000);
        assert!(!answered(&twice).holds);
        let mut idle = sound;
        idle.clients.offered = 150;
        assert!(!conclusive(&idle).holds);
        assert!(!conclusive(&saw(vec![1; 20])).holds);
    }
}
