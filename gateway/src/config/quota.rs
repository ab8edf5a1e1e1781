//! `[admission.quota]`: what one client may ask.

use super::reader::Section;
use super::types::{ClientQuota, Newcomers, Quota};

const RATE_MAX: u64 = 100_000_000;
const HOUR_MS: u64 = 3_600_000;

pub(super) fn read(root: &mut Section<'_, '_>) -> Quota {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("quota");
    let mut client = |per_s_key, per_s, burst_key, burst| {
        let per_s = section.number(per_s_key, per_s, 0..=RATE_MAX, "requests a second") as u32;
        let burst = section.number(burst_key, burst, 1..=RATE_MAX, "requests") as u32;
        (per_s > 0).then_some(ClientQuota { per_s, burst })
    };
    let buyer = client("buyer_per_s", 2, "buyer_burst", 20);
    let ip = client("ip_per_s", 200, "ip_burst", 2_000);
    let burst = section.number("newcomers", 1, 0..=RATE_MAX, "buyers") as u32;
    let window_ms = section.number("newcomers_window_ms", 600_000, 1_000..=24 * HOUR_MS, "ms");
    let wait_ms = section.number("newcomer_wait_ms", 1_000, 100..=60_000, "ms");
    let newcomers = (burst > 0).then_some(Newcomers { burst, window_ms, wait_ms });
    let exempt = section.parsed_list("exempt", &[], "network such as 10.0.0.0/8", |text| text.parse().ok());
    let clients_max = section.number("clients_max", 1_000_000, 1_000..=100_000_000, "clients") as usize;
    section.finish();
    Quota { buyer, ip, newcomers, exempt, clients_max }
}
