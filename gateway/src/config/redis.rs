//! `[ledger.redis]`: one of three topologies, and the bounds on every wait. Nothing of a password, nor of a URL
//! that may hold one, is ever printed.

use super::problem::Place;
use super::reader::Section;
use super::secret::read_hidden;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidegate_stock::redis::{Address, Password, RedisOptions, Tls, Topology};

const PORT: u16 = 6379;
const ADDRESSES_MAX: usize = 64;
const PREFIX_MAX: usize = 64;
/// Lua unpacks some 8,000 values at most, and a longer script would keep others waiting.
const BATCH_MAX: u64 = 1_024;

/// What a URL says; what it leaves out is `None`.
struct Url {
    address: Address,
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    database: Option<u32>,
}

/// Reads the table. `asked_by`: where the configuration chooses this ledger; then what it cannot do without is
/// missed.
pub(super) fn read(section: &mut Section<'_, '_>, asked_by: Option<Place>) -> RedisOptions {
    let url = url(section);
    let sentinels = addresses(section, "sentinels", &["10.0.0.1:26379"]);
    let cluster = addresses(section, "cluster", &["10.0.0.1:6379"]);
    let master = section.text_or("master", None).map(|(text, _)| text);
    let sentinel_password = password(section, "sentinel_password", "sentinel_password_file");
    let tls_flag = section.flag("tls", false);
    let user = section.text_or("user", None).map(|(text, _)| text);
    let own_password = password(section, "password", "password_file");
    let database = section.number("database", 0, 0..=65_535, "") as u32;
    exactly_one_topology(section, asked_by);
    sentinel_keys(section);
    let tls = tls(section, url.as_ref(), tls_flag);
    let user = user.or_else(|| url.as_ref().and_then(|url| url.user.clone()));
    let in_url = url.as_ref().and_then(|url| url.password.as_deref());
    let has_password = section.is_set("password") || section.is_set("password_file") || in_url.is_some();
    in_one_place(section, url.as_ref());
    if user.is_some() && !has_password && (!section.is_set("url") || url.is_some()) {
        let place = section.place_of(if section.is_set("user") { "user" } else { "url" });
        let help = Some("add password_file (or password)".to_owned());
        section.problem(place, "user", "has no password", help);
    }
    let own_password = own_password.or_else(|| in_url.map(|text| Password(Arc::from(text))));
    let database = url.as_ref().and_then(|url| url.database).unwrap_or(database);
    if section.is_set("cluster") && section.is_set("database") && database != 0 {
        let place = section.place_of("database");
        let help = Some("leave it out, and keep installations apart by `prefix`".to_owned());
        section.problem(place, "database", "a Redis Cluster has database 0 only", help);
    }
    let topology = match (url, sentinels, cluster) {
        (_, Some(sentinels), _) => {
            let master = master.unwrap_or_default();
            Topology::Sentinel { sentinels, master, password: sentinel_password }
        }
        (_, None, Some(nodes)) => Topology::Cluster(nodes),
        (Some(url), None, None) => Topology::Single(url.address),
        // There is a problem, or nobody uses it.
        (None, None, None) => Topology::Single(Address { host: "127.0.0.1".to_owned(), port: PORT }),
    };
    let options = RedisOptions {
        topology,
        tls,
        user,
        password: own_password,
        database,
        prefix: Arc::from(section.parsed(
            "prefix",
            "tidegate:",
            &format!("1 to {PREFIX_MAX} of A-Z a-z 0-9 _ . : - /"),
            prefix,
        )),
        connect_timeout: ms(section, "connect_timeout_ms", 1_000, 10, 60_000),
        call_timeout: ms(section, "call_timeout_ms", 200, 5, 10_000),
        breaker_failures: section.number("breaker_failures", 5, 1..=1_000, "calls") as u32,
        breaker_pause: ms(section, "breaker_pause_ms", 1_000, 10, 60_000),
        wait_replicas: section.number("wait_replicas", 0, 0..=16, "replicas") as u32,
        wait_timeout: ms(section, "wait_timeout_ms", 100, 1, 10_000),
        batch_max: section.number("batch_max", 256, 1..=BATCH_MAX, "requests") as usize,
        waiting_max: section.number("waiting_max", 20_000, 1..=1_000_000, "requests") as usize,
        claim_after: ms(section, "claim_after_ms", 3_000, 50, 600_000),
        dead_after: ms(section, "dead_after_ms", 5_000, 100, 600_000),
        allow_eviction: section.flag("allow_eviction", false),
    };
    bounds(section, &options);
    options
}

fn ms(section: &mut Section<'_, '_>, key: &'static str, default: u64, least: u64, most: u64) -> Duration {
    Duration::from_millis(section.number(key, default, least..=most, "ms"))
}

/// Rules between the bounds.
fn bounds(section: &mut Section<'_, '_>, options: &RedisOptions) {
    let mut refuse = |key, message: &str, help: &str| {
        let place = section.place_of(key);
        section.problem(place, key, message, Some(help.to_owned()));
    };
    if options.wait_replicas > 0 && options.wait_timeout >= options.call_timeout {
        let help = "the call waits for the replicas too; give it more than they may take";
        refuse("wait_timeout_ms", "is not below call_timeout_ms", help);
    }
    if options.claim_after <= options.call_timeout {
        let help = "else orders are claimed while their own gateway is still waiting for Redis";
        refuse("claim_after_ms", "is not above call_timeout_ms", help);
    }
    if options.waiting_max < options.batch_max {
        refuse("waiting_max", "is below batch_max", "no batch would ever be full");
    }
}

fn url(section: &mut Section<'_, '_>) -> Option<Url> {
    let (text, place) = section.text_or("url", None)?;
    parse_url(&text)
        .map_err(|why| {
            // Not the text itself: it may hold a password.
            let message = format!("is no address of a Redis: {why}");
            let help = "write it as redis://host:6379, or rediss://host:6379 for TLS";
            section.problem(place, "url", message, Some(help.to_owned()));
        })
        .ok()
}

fn parse_url(text: &str) -> Result<Url, &'static str> {
    if text.contains(['?', '#']) {
        return Err("`?` and `#` have no meaning in it (in a password write %3F and %23)");
    }
    let uri: http::Uri =
        text.parse().map_err(|_| "it is no URL (percent-encode what is special in user and password)")?;
    let tls = match uri.scheme_str() {
        Some("redis") => false,
        Some("rediss") => true,
        _ => return Err("it does not begin with redis:// or rediss://"),
    };
    let authority = uri.authority().ok_or("it has no host")?;
    let (login, place) =
        authority.as_str().rsplit_once('@').map_or((None, authority.as_str()), |(a, b)| (Some(a), b));
    // A port that is out of range is none for `http::Uri`; behind the bracket of an IPv6 address comes only the port.
    let with_port = match place.rsplit_once(']').map_or(place, |(_, port)| port).rsplit_once(':') {
        Some((_, port)) if !port.parse::<u16>().is_ok_and(|port| port > 0) => {
            return Err("its port is not 1 to 65535");
        }
        Some(_) => place.to_owned(),
        None => format!("{place}:{PORT}"),
    };
    let address = address(&with_port).ok_or("its host is no name and no IP address")?;
    let decode = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        decoded.map(|text| Some(text.into_owned()).filter(|text| !text.is_empty()))
    };
    let (user, password) = login.map_or((Ok(None), Ok(None)), |login| {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        (decode(user), decode(password))
    });
    let database = match uri.path().trim_start_matches('/') {
        "" => None,
        digits => Some(
            digits.parse::<u16>().map_err(|_| "after the port comes a number of a database, or nothing")?,
        ),
    };
    Ok(Url {
        address,
        tls,
        user: user.map_err(|_| "its user is not UTF-8")?,
        password: password.map_err(|_| "its password is not UTF-8")?,
        database: database.map(u32::from),
    })
}

/// `host:port`; brackets around an IPv6 address.
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && (text.starts_with('[') || !host.contains(':')) && host.bytes().all(named))
        .then(|| Address { host: host.to_owned(), port })
}

fn addresses(section: &mut Section<'_, '_>, key: &'static str, such_as: &[&str]) -> Option<Vec<Address>> {
    let (texts, place) = section.texts_or(key)?;
    if !(1..=ADDRESSES_MAX).contains(&texts.len()) {
        let message = format!("has {} addresses, not 1 to {ADDRESSES_MAX}", texts.len());
        section.problem(place.clone(), key, message, Some(format!("such as {such_as:?}")));
    }
    let mut found = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        if let Some(address) = address(text) {
            found.push(address);
            continue;
        }
        let which = index + 1;
        // Somebody may have written a URL with a password.
        let shown = if text.contains(['@', '/']) { String::new() } else { format!(" \"{text}\"") };
        let message = format!("address {which}{shown} is no host:port");
        section.problem(place.clone(), key, message, Some(format!("such as {such_as:?}")));
    }
    Some(found)
}

fn password(section: &mut Section<'_, '_>, key: &'static str, file_key: &'static str) -> Option<Password> {
    let (key, place, text) = read_hidden(section, key, file_key).ok()??;
    if text.is_empty() {
        section.problem(place, key, "the password is empty", None);
    }
    Some(Password(Arc::from(text)))
}

fn exactly_one_topology(section: &mut Section<'_, '_>, asked_by: Option<Place>) {
    let named: Vec<&str> =
        ["url", "sentinels", "cluster"].into_iter().filter(|key| section.is_set(key)).collect();
    if let [first, second, ..] = named[..] {
        let help = format!("keep one: url for one server, sentinels, or cluster; {first} is set too");
        let place = section.place_of(second);
        section.problem(place, second, "says a second time where Redis is", Some(help));
        return;
    }
    match (&named[..], asked_by) {
        ([], Some(place)) => {
            let message = "is missing while ledger.kind is \"redis\"";
            let help = "such as url = \"redis://127.0.0.1:6379\"; or sentinels with master; or cluster";
            section.problem(place, "url", message, Some(help.to_owned()));
        }
        // Two gateways that were meant to share a stock would each sell the whole of it.
        ([key, ..], None) => {
            let help = "set kind = \"redis\" under [ledger], or leave it out";
            let place = section.place_of(key);
            section.problem(place, key, "is set while ledger.kind is \"embedded\"", Some(help.to_owned()));
        }
        _ => {}
    }
}

/// What goes with `sentinels`, and with nothing else.
fn sentinel_keys(section: &mut Section<'_, '_>) {
    if section.is_set("sentinels") {
        if !section.is_set("master") {
            let place = section.place_of("sentinels");
            let help = Some("the name after `sentinel monitor` in the Sentinels' configuration".to_owned());
            section.problem(place, "master", "is missing while sentinels is set", help);
        }
        return;
    }
    for key in ["master", "sentinel_password", "sentinel_password_file"] {
        if section.is_set(key) {
            let place = section.place_of(key);
            let help = Some("add sentinels, or leave it out".to_owned());
            section.problem(place, key, "is without effect while sentinels is not set", help);
        }
    }
}

/// What a URL says cannot be said beside it.
fn in_one_place(section: &mut Section<'_, '_>, url: Option<&Url>) {
    let Some(url) = url else { return };
    let pairs = [
        ("user", url.user.is_some()),
        ("password", url.password.is_some()),
        ("password_file", url.password.is_some()),
        ("database", url.database.is_some()),
    ];
    for (key, in_url) in pairs {
        if in_url && section.is_set(key) {
            let place = section.place_of(key);
            section.problem(place, key, "is in the url too", Some("keep one of them".to_owned()));
        }
    }
}

fn tls(section: &mut Section<'_, '_>, url: Option<&Url>, flag: bool) -> Option<Tls> {
    let ca_file = readable(section, "ca_file");
    let certificate = readable(section, "client_cert_file");
    let key = readable(section, "client_key_file");
    for (one, other) in [("client_cert_file", "client_key_file"), ("client_key_file", "client_cert_file")] {
        if section.is_set(one) && !section.is_set(other) {
            let place = section.place_of(one);
            let help = Some("a certificate of the gateway's own needs both".to_owned());
            section.problem(place, other, format!("is missing while {one} is set"), help);
        }
    }
    if let Some(url) = url
        && section.is_set("tls")
        && flag != url.tls
    {
        let place = section.place_of("tls");
        let help = Some("with url, redis:// is without TLS and rediss:// with it; leave tls out".to_owned());
        section.problem(place, "tls", "contradicts the url", help);
    }
    // A url that does not parse is told already; what it would have said is not known.
    let known = url.is_some() || !section.is_set("url");
    if !(flag || url.is_some_and(|url| url.tls)) {
        for file in ["ca_file", "client_cert_file", "client_key_file"] {
            if known && section.is_set(file) {
                let place = section.place_of(file);
                let help =
                    "write rediss:// in url (or tls = true with sentinels and cluster), or leave it out";
                section.problem(place, file, "is without effect without TLS", Some(help.to_owned()));
            }
        }
        return None;
    }
    Some(Tls { ca_file, client: certificate.zip(key) })
}

/// A file that this user can read, when it is named.
fn readable(section: &mut Section<'_, '_>, key: &'static str) -> Option<PathBuf> {
    let (path, place): (String, Place) = section.text_or(key, None)?;
    if let Err(error) = File::open(&path) {
        let help = Some("check the path and that this user may read it".to_owned());
        section.problem(place, key, format!("cannot read {path}: {error}"), help);
    }
    Some(PathBuf::from(path))
}

/// No braces: the hash tag of a key is its sale. No wildcards: an ACL names keys by a pattern.
fn prefix(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-' | b'/');
    ((1..=PREFIX_MAX).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}
