//! Every section with its keys, defaults and ranges. `config/tidegate.toml` says the same to operators, and a
//! test keeps the two in step.

use super::origin::Origin;
use super::reader::Section;
use super::secret::read_secret;
use super::types::{
    Config, Data, Identity, InnerTokens, LedgerKind, Listen, LogFormat, LogSettings, QueueSettings,
    SaleAtStart,
};
use super::{
    blacklist, cache, identity, pass, policy, problem::Place, proxy, quota, redis, tls, tokens, wait,
};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate_queue::{Durability, Policies};
use tidegate_stock::SaleSpec;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PAGE: u64 = 4 * KIB;
/// Of one sale, as the ledger counts.
const UNITS_MAX: u64 = 1 << 53;
/// The ledger keeps an order deadline in 32 bits: 49 days.
const ORDER_DEADLINE_MS_MAX: u64 = u32::MAX as u64;
/// A year: no wait of a sale is longer.
const WAIT_MS_MAX: u64 = 365 * 24 * 3_600 * 1_000;
const HOUR_MS: u64 = 3_600 * 1_000;

pub(super) fn root(root: &mut Section<'_, '_>) -> Config {
    let listen = listen(root);
    let data = data(root);
    let ledger = ledger(root);
    let shared = matches!(ledger, LedgerKind::Redis(_));
    if shared {
        fleet(root, &listen, &data);
    }
    admission(root);
    let pass = pass::read(root);
    // With several gateways each must be able to judge the passes of the others.
    let passes = !shared || !pass.keys.is_empty();
    Config {
        data,
        ledger,
        identity: identity_section(root),
        tokens: tokens::read(root, shared),
        quota: quota::read(root),
        blacklist: blacklist::read(root),
        queue: queue(root),
        inner_tokens: inner(root, listen.inner),
        log: log(root),
        sales: sales(root, shared, passes),
        pass,
        policy: policy::read(root),
        cache: cache::read(root),
        proxy: proxy::read(root, &listen),
        origin: Origin::default(),
        wait: wait::read(root),
        listen,
    }
}

fn listen(root: &mut Section<'_, '_>) -> Listen {
    let mut section = root.section("listen");
    let address = "an address and port such as 127.0.0.1:8080";
    let parse = |text: &str| text.parse::<SocketAddr>().ok();
    let public = section.parsed("public", "127.0.0.1:8080", address, parse);
    let inner = section.parsed("inner", "127.0.0.1:8081", address, parse);
    let place = section.place_of("inner");
    if public == inner && public.port() != 0 {
        section.problem(
            place,
            "inner",
            format!("public and inner are both {public}"),
            Some("give each listener a port of its own".to_owned()),
        );
    }
    let advertise_public = advertised(&mut section, "advertise_public");
    let advertise_inner = advertised(&mut section, "advertise_inner");
    let threads = section.number("threads", 0, 0..=1024, "threads") as usize;
    let listen = Listen {
        public,
        inner,
        advertise_public,
        advertise_inner,
        threads: if threads == 0 {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        } else {
            threads
        },
        connections_max: section.number("connections_max", 20_000, 1..=10_000_000, "connections") as usize,
        header_timeout_ms: section.number("header_timeout_ms", 10_000, 10..=600_000, "ms"),
        idle_timeout_ms: section.number("idle_timeout_ms", 75_000, 10..=3_600_000, "ms"),
        header_bytes_max: section.number("header_bytes_max", 16 * KIB, 8 * KIB..=MIB, "bytes") as usize,
        body_bytes_max: section.number("body_bytes_max", 64 * KIB, 64..=16 * MIB, "bytes") as usize,
        inner_body_bytes_max: section.number("inner_body_bytes_max", 8 * MIB, KIB..=256 * MIB, "bytes")
            as usize,
        connections_per_ip_max: section.number("connections_per_ip_max", 2_000, 0..=10_000_000, "connections")
            as usize,
        proxy_protocol_from: section.parsed_list(
            "proxy_protocol_from",
            &[],
            "network such as 10.0.0.0/8",
            |text| text.parse().ok(),
        ),
        tls: tls::read(&mut section),
        drain_ms: section.number("drain_ms", 10_000, 0..=600_000, "ms"),
    };
    section.finish();
    listen
}

/// A base URL without its last `/`.
fn advertised(section: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let (text, place) = section.text_or(key, None)?;
    let plain = |uri: http::Uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let login = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
        scheme && !login && uri.query().is_none() && !text.contains('#')
    };
    if !text.parse().is_ok_and(plain) {
        // Not the text itself: it may hold a password.
        let help = Some("such as \"http://10.0.0.1:8081\"".to_owned());
        section.problem(place, key, "is no base URL (scheme, host, port; no login, no query)", help);
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn data(root: &mut Section<'_, '_>) -> Data {
    let mut section = root.section("data");
    let dir = match section.text_or("dir", Some("data")) {
        Some((dir, place)) => {
            if dir.is_empty() {
                section.problem(place, "dir", "is empty", Some("name a folder".to_owned()));
            }
            PathBuf::from(dir)
        }
        None => PathBuf::from("data"),
    };
    let is_async = section.choice("flush", &[("sync", false), ("async", true)]);
    let interval_ms = section.number("flush_interval_ms", 10, 1..=60_000, "ms");
    let data = Data {
        dir,
        flush: if is_async { Durability::Async { interval_ms } } else { Durability::Sync },
        segment_bytes: segment_bytes(&mut section),
        pending_bytes_max: section.number("pending_bytes_max", 64 * MIB, 64 * KIB..=16 * GIB, "bytes"),
        snapshot_bytes: section.number("snapshot_bytes", 64 * MIB, 64 * KIB..=1024 * GIB, "bytes"),
        retention_ms: match section.number("retention_ms", 72 * HOUR_MS, 0..=10 * WAIT_MS_MAX, "ms") {
            0 => u64::MAX,
            ms => ms,
        },
    };
    section.finish();
    data
}

fn segment_bytes(section: &mut Section<'_, '_>) -> u64 {
    let bytes = section.number("segment_bytes", 64 * MIB, 64 * KIB..=16 * GIB, "bytes");
    if !bytes.is_multiple_of(PAGE) {
        let place = section.place_of("segment_bytes");
        let help = Some(format!("for example {} bytes", bytes.next_multiple_of(PAGE)));
        section.problem(place, "segment_bytes", format!("{bytes} is no multiple of {PAGE} bytes"), help);
    }
    bytes
}

fn ledger(root: &mut Section<'_, '_>) -> LedgerKind {
    let mut section = root.section("ledger");
    let shared = section.choice("kind", &[("embedded", false), ("redis", true)]);
    let asked_by = shared.then(|| section.place_of("kind"));
    let mut table = section.section("redis");
    let options = redis::read(&mut table, asked_by);
    table.finish();
    section.finish();
    if shared { LedgerKind::Redis(Arc::new(options)) } else { LedgerKind::Embedded }
}

/// What the rest of the file must say when several gateways share one stock.
fn fleet(root: &mut Section<'_, '_>, listen: &Listen, data: &Data) {
    if matches!(data.flush, Durability::Async { .. }) {
        let mut section = root.section("data");
        let message = "\"async\" is refused while ledger.kind is \"redis\"";
        let help = "use \"sync\": once this gateway has an order in its log, Redis forgets that the order may have to \
                    be delivered by another; after a power loss neither would have it";
        let place = section.place_of("flush");
        section.problem(place, "flush", message, Some(help.to_owned()));
    }
    let told = [
        ("public", "advertise_public", listen.public, &listen.advertise_public),
        ("inner", "advertise_inner", listen.inner, &listen.advertise_inner),
    ];
    for (key, advertise, address, told) in told {
        if told.is_none() && address.ip().is_unspecified() {
            let mut section = root.section("listen");
            let message = format!("is missing while {key} is {address} and ledger.kind is \"redis\"");
            let help = format!(
                "other gateways and workers are told this address; such as \"http://10.0.0.1:{}\"",
                address.port()
            );
            let place = section.place_of(key);
            section.problem(place, advertise, message, Some(help));
        }
    }
}

fn identity_section(root: &mut Section<'_, '_>) -> Identity {
    let mut section = root.section("identity");
    let identity = identity::read(&mut section);
    section.finish();
    // Without its keys there is a problem, and then the configuration is not handed out.
    identity.unwrap_or_else(|| Identity::Header {
        header: http::HeaderName::from_static("x-user-id"),
        trusted_proxies: Vec::new(),
    })
}

/// What nobody has read of `[admission]` is unknown. Its sections are read each by its own.
fn admission(root: &mut Section<'_, '_>) {
    let mut admission = root.section("admission");
    for section in ["tokens", "quota", "blacklist", "pass", "policy", "wait"] {
        admission.known_section(section);
    }
    admission.finish();
}

fn queue(root: &mut Section<'_, '_>) -> QueueSettings {
    let mut section = root.section("queue");
    let settings = QueueSettings {
        topic_queues: section.number("topic_queues", 4, 1..=256, "queues") as u32,
        lease_ms: section.number("lease_ms", 30_000, 100..=43_200_000, "ms"),
        attempts_max: section.number("attempts_max", 16, 1..=1_000, "attempts") as u32,
        retry_delays_ms: section.numbers(
            "retry_delays_ms",
            &[1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 600_000],
            0..=WAIT_MS_MAX,
            "ms",
        ),
        ack_sync_ms: section.number("ack_sync_ms", 100, 1..=60_000, "ms"),
        check_first_ms: section.number("check_first_ms", 6_000, 100..=WAIT_MS_MAX, "ms"),
        check_every_ms: section.number("check_every_ms", 30_000, 100..=WAIT_MS_MAX, "ms"),
        checks_max: section.number("checks_max", 15, 1..=1_000, "checks") as u32,
        delayed_max: section.number("delayed_max", 2_000_000, 1..=100_000_000, "messages") as usize,
        delay_levels_ms: delay_levels(&mut section),
        group_expiry_ms: section.number("group_expiry_ms", 7 * 24 * HOUR_MS, 1_000..=WAIT_MS_MAX, "ms"),
        waiting_receives_max: section.number("waiting_receives_max", 1_024, 1..=1_000_000, "receives")
            as usize,
    };
    section.finish();
    settings
}

fn delay_levels(section: &mut Section<'_, '_>) -> [u64; 18] {
    let levels = Policies::DELAY_LEVELS_MS;
    let found = section.numbers("delay_levels_ms", &levels, 1..=Policies::DELAY_MAX_MS, "ms");
    found.as_slice().try_into().unwrap_or_else(|_| {
        let message = format!("has {} delays; there are 18 levels", found.len());
        section.problem(
            Place::Whole,
            "delay_levels_ms",
            message,
            Some("give one delay for each level".to_owned()),
        );
        levels
    })
}

fn inner(root: &mut Section<'_, '_>, address: SocketAddr) -> Option<InnerTokens> {
    let mut section = root.section("inner");
    let worker = read_secret(&mut section, "worker_token", "worker_token_file");
    let admin = read_secret(&mut section, "admin_token", "admin_token_file");
    let mut refuse = |key, message: String| {
        let help =
            format!("set both inner.{key} and the other scope's token, or listen on loopback without tokens");
        section.problem(Place::Whole, key, message, Some(help));
    };
    let tokens = match (worker, admin) {
        (Ok(Some(worker)), Ok(Some(admin))) => Some(InnerTokens { worker, admin }),
        (Ok(Some(_)), Ok(None)) => {
            refuse("admin_token", "is missing while worker_token is set".to_owned());
            None
        }
        (Ok(None), Ok(Some(_))) => {
            refuse("worker_token", "is missing while admin_token is set".to_owned());
            None
        }
        (Ok(None), Ok(None)) if !address.ip().is_loopback() => {
            refuse(
                "worker_token",
                format!("the inner listener on {address} is not loopback and has no tokens"),
            );
            None
        }
        _ => None,
    };
    section.finish();
    tokens
}

fn log(root: &mut Section<'_, '_>) -> LogSettings {
    let mut section = root.section("log");
    let level = section.parsed("level", "info", "a filter such as info or tidegate=debug,info", |text| {
        tracing_subscriber::EnvFilter::try_new(text).ok().map(|_| text.to_owned())
    });
    let buyers = section.flag("buyers", false);
    let format = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    section.finish();
    LogSettings { level, buyers, format }
}

fn sales(root: &mut Section<'_, '_>, shared: bool, passes: bool) -> Vec<SaleAtStart> {
    let mut seen = HashSet::new();
    root.tables("sale", |section| {
        let sale = sale(section, shared, passes);
        if !seen.insert(sale.sale.clone()) {
            let place = section.place_of("id");
            section.problem(place, "id", format!("the sale \"{}\" is there twice", sale.sale), None);
        }
        sale
    })
}

fn sale(section: &mut Section<'_, '_>, shared: bool, passes: bool) -> SaleAtStart {
    let sale = required(section, "id");
    let valid = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    if !sale.0.is_empty() && !valid(&sale.0) {
        let message = format!("\"{}\" is no sale id", sale.0);
        let help = Some("use 1 to 64 of A-Z a-z 0-9 _ . -".to_owned());
        section.problem(sale.1, "id", message, help);
    }
    let spec = SaleSpec {
        item: required(section, "item").0,
        title: section.text_or("title", None).map(|(text, _)| text),
        stock: section.number_or("stock", None, 0..=UNITS_MAX, "units").unwrap_or_else(|| {
            if !section.has("stock") {
                let place = section.place();
                section.problem(place, "stock", "is missing in a [[sale]]", None);
            }
            0
        }),
        per_buyer_limit: section.number("per_buyer_limit", 1, 1..=u64::from(u32::MAX), "units") as u32,
        quantity_max: section.number("quantity_max", 1, 1..=u64::from(u32::MAX), "units") as u32,
        opens_at_ms: section.number_or("opens_at_ms", None, 0..=u64::MAX, "ms since 1970"),
        closes_at_ms: section.number_or("closes_at_ms", None, 0..=u64::MAX, "ms since 1970"),
        order_deadline_ms: section.number("order_deadline_ms", 30_000, 1..=ORDER_DEADLINE_MS_MAX, "ms"),
        pay_window_ms: section.number("pay_window_ms", 900_000, 1..=WAIT_MS_MAX, "ms"),
        weight: section.number("weight", 1, 1..=1_000_000, "") as u32,
        requires_pass: section.flag("requires_pass", false),
        limit_group: section.text_or("limit_group", None).map(|(text, _)| text),
        limit_counts_released: section.flag("limit_counts_released", false),
    };
    if let (Some(opens), Some(closes)) = (spec.opens_at_ms, spec.closes_at_ms)
        && closes <= opens
    {
        let place = section.place_of("closes_at_ms");
        section.problem(place, "closes_at_ms", "is not after opens_at_ms", None);
    }
    if shared && spec.limit_group.is_some() {
        let place = section.place_of("limit_group");
        let message = "is not available with the Redis ledger";
        let help = "sales of one group would have to stand in one hash slot; give each sale its own limit";
        section.problem(place, "limit_group", message, Some(help.to_owned()));
    }
    if spec.requires_pass && !passes {
        let place = section.place_of("requires_pass");
        section.problem(place, "requires_pass", pass::KEYS_MISSING, Some(pass::KEYS_HELP.to_owned()));
    }
    SaleAtStart { sale: sale.0, spec }
}

fn required(section: &mut Section<'_, '_>, key: &'static str) -> (String, Place) {
    let found = section.text_or(key, None);
    if found.as_ref().is_none_or(|(text, _)| text.is_empty()) && (found.is_some() || !section.has(key)) {
        let place = section.place();
        section.problem(place, key, "is missing in a [[sale]]", None);
    }
    found.unwrap_or_else(|| (String::new(), Place::Whole))
}
