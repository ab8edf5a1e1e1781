//! `GET /metrics`: figures for Prometheus, read from where they live at the moment of the scrape.

use crate::admission::Identity;
use crate::http::{Answer, answer};
use crate::state::App;
use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tidegate_queue::HeldBy;

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The answer to a scrape.
pub fn answer(app: &Arc<App>) -> Answer {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Figures(app.clone())));
    let mut page = String::with_capacity(4096);
    match text::encode(&mut page, &registry) {
        Ok(()) => answer::raw(StatusCode::OK, OPEN_METRICS, Bytes::from(page)),
        // Writing to a `String` does not fail.
        Err(fmt::Error) => answer::plain(tidegate_client::wire::ProblemType::Internal),
    }
}

struct Figures(Arc<App>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

/// Reads one figure of a group.
type Read = fn(&tidegate_queue::GroupStats) -> u64;
/// One figure with its labels.
type Sample<L> = (L, u64);

impl Collector for Figures {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let app = &*self.0;
        self.outcomes(&mut to)?;
        self.sales(&mut to)?;
        self.entrance(&mut to)?;
        self.identity(&mut to)?;
        self.passes(&mut to)?;
        self.clients(&mut to)?;
        self.policies(&mut to)?;
        self.tokens(&mut to)?;
        crate::proxy::encode(&app.live().proxy, &mut to)?;
        self.reloads(&mut to)?;
        self.waits(&mut to)?;
        crate::cache::encode(&app.cache, &mut to)?;
        self.topics(&mut to)?;
        let connections = app.connections.all() as u64;
        gauge(&mut to, "connections", "Open connections on both listeners", connections)?;
        gauge(&mut to, "live_tickets", "Tickets that are not at their end", app.stock.live_tickets())?;
        gauge(
            &mut to,
            "delayed_messages",
            "Delayed messages that are not due yet",
            app.queue.delayed() as u64,
        )?;
        let open = app.queue.open_transactions() as u64;
        gauge(&mut to, "open_transactions", "Transactions that nobody has resolved", open)?;
        let poisoned = u64::from(app.durable.is_poisoned());
        gauge(&mut to, "log_failed", "1 when the log has failed and the process must restart", poisoned)?;
        let (end, durable) = (app.queue.end().0, app.queue.durable().0);
        counter(&mut to, "log", "Position of the log's end", Some(&Unit::Bytes), durable)?;
        gauge(&mut to, "log_pending_bytes", "Accepted and not durable yet", end.saturating_sub(durable))?;
        self.keeping(&mut to)
    }
}

impl Figures {
    fn clients(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let app = &*self.0;
        let bans = app.blacklist.list(app.clock.now_ms()).len() as u64;
        gauge(to, "bans", "Clients that are banned now", bans)?;
        let (made, turned_away) = app.blacklist.counts();
        counter(to, "bans_made", "Bans that this gateway made by itself", None, made)?;
        let help = "Clients that could not be banned because the blacklist was full";
        counter(to, "bans_not_made", help, None, turned_away)?;
        let live = app.live();
        let (asked, kept) = live.quotas.newcomers.as_ref().map_or((0, 0), |newcomers| newcomers.counts());
        counter(
            to,
            "newcomers_asked",
            "Buyers new to a busy address who were asked to come back",
            None,
            asked,
        )?;
        counter(to, "newcomers_kept", "… and did", None, kept)
    }

    fn outcomes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric =
            to.encode_descriptor("requests", "Answers to buyers by outcome", None, MetricType::Counter)?;
        for (outcome, count) in self.0.outcomes.totals() {
            metric
                .encode_family(&[("outcome", outcome)])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn keeping(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let keeping = self.0.queue.keeping();
        gauge(to, "log_kept_bytes", "From the log's beginning to its end", keeping.kept_bytes)?;
        let deleted = keeping.segments_deleted;
        counter(to, "log_deleted_segments", "Files of the log deleted since the start", None, deleted)?;
        let (by, of) = match &keeping.held_by {
            HeldBy::Unknown => return Ok(()),
            HeldBy::Age => ("age", None),
            HeldBy::Snapshot => ("snapshot", None),
            HeldBy::Owner => ("ledger", None),
            HeldBy::Delayed => ("delayed", None),
            HeldBy::Transaction => ("transaction", None),
            HeldBy::Group { topic, group } => ("group", Some((topic, group))),
            HeldBy::Report { topic, group } => ("report", Some((topic, group))),
            HeldBy::DeadLetter { topic, group } => ("dead_letter", Some((topic, group))),
        };
        let held_ms = self.0.clock.now_ms().saturating_sub(keeping.since_ms);
        let help = "How long the same thing has kept the log from being deleted";
        let mut metric = to.encode_descriptor("log_held_ms", help, None, MetricType::Gauge)?;
        let (topic, group) = of.map_or(("", ""), |(topic, group)| (topic, group));
        metric.encode_family(&[("by", by), ("topic", topic), ("group", group)])?.encode_gauge(&held_ms)
    }

    fn sales(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sales = self.0.stock.sales_seen();
        let units: Vec<Sample<[(&str, &str); 2]>> = sales
            .iter()
            .flat_map(|view| {
                let stock = &view.stock;
                [("available", stock.available), ("held", stock.held), ("sold", stock.sold)]
                    .map(|(state, units)| ([("sale", &*view.sale), ("state", state)], units))
            })
            .collect();
        let mut metric =
            to.encode_descriptor("stock_units", "Units of a sale by state", None, MetricType::Gauge)?;
        for (labels, count) in &units {
            metric.encode_family(labels)?.encode_gauge(count)?;
        }
        let mut metric =
            to.encode_descriptor("stock_returned_units", "Units that came back", None, MetricType::Counter)?;
        for view in &sales {
            let labels = [("sale", &*view.sale)];
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&view.stock.returned, None)?;
        }
        Ok(())
    }

    fn entrance(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let entrance = &self.0.entrance;
        let help = "Connections closed before a request, by reason";
        let mut metric = to.encode_descriptor("connections_closed", help, None, MetricType::Counter)?;
        let reasons = [
            ("full", &entrance.full),
            ("client", &entrance.client),
            ("proxy_header", &entrance.proxy_header),
        ];
        for (reason, count) in reasons {
            metric
                .encode_family(&[("reason", reason)])?
                .encode_counter::<NoLabelSet, _, u64>(&read(count), None)?;
        }
        let live = self.0.live();
        let Some(tls) = &live.tls else { return Ok(()) };
        let counts = &tls.counts;
        let mut metric =
            to.encode_descriptor("tls_handshakes", "TLS handshakes by result", None, MetricType::Counter)?;
        let results = [("done", &counts.done), ("failed", &counts.failed), ("refused", &counts.refused)];
        for (result, count) in results {
            metric
                .encode_family(&[("result", result)])?
                .encode_counter::<NoLabelSet, _, u64>(&read(count), None)?;
        }
        let help = "When the present certificate ends, Unix time";
        gauge(to, "tls_certificate_not_after_seconds", help, tls.not_after_ms() / 1_000)?;
        let help = "Looks at the files of the certificate that found them unusable";
        counter(to, "tls_certificate_failures", help, None, read(&counts.reload_failures))
    }

    fn identity(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let live = self.0.live();
        let Identity::Jwt(gate) = &live.identity else { return Ok(()) };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &gate.counts;
        let mut metric =
            to.encode_descriptor("bearer_tokens", "Bearer tokens by result", None, MetricType::Counter)?;
        for (result, count) in
            [("verified", &counts.verified), ("remembered", &counts.remembered), ("refused", &counts.refused)]
        {
            metric
                .encode_family(&[("result", result)])?
                .encode_counter::<NoLabelSet, _, u64>(&read(count), None)?;
        }
        gauge(to, "bearer_token_keys", "Keys that bearer tokens are checked with", gate.keys() as u64)?;
        let help = "Looks at the file with the keys of bearer tokens that found it unusable";
        counter(to, "bearer_token_key_failures", help, None, read(&counts.reload_failures))
    }

    fn passes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let live = self.0.live();
        let passes = &live.passes;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = passes.counts();
        counter(to, "challenges", "Challenges given", None, read(&counts.challenges))?;
        counter(to, "passes", "Purchase passes given", None, read(&counts.passes))?;
        counter(to, "wrong_answers", "Wrong answers to challenges", None, read(&counts.wrong_answers))?;
        let help = "Passes spent or answers given that there was no room to remember";
        counter(to, "passes_unremembered", help, None, passes.unremembered())
    }

    fn tokens(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let tokens = &self.0.tokens;
        let help = "Orders at the token queue, by the weight of their sale and what became of them";
        let mut metric = to.encode_descriptor("token_orders", help, None, MetricType::Counter)?;
        for (labels, count) in tokens.counts.totals() {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let leases = tokens.counts.leases();
        counter(to, "token_leases", "Calls to Redis for a lot of the shared tokens", None, leases)?;
        let rate = tokens.rate_per_s().round() as u64;
        gauge(to, "token_rate", "Tokens a second; 0: no token queue", rate)?;
        gauge(to, "token_waiting", "Orders that wait for a token", tokens.waiting() as u64)
    }

    fn policies(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let live = self.0.live();
        let Some(policies) = &live.policies else { return Ok(()) };
        let help = "Orders that policies judged, by what became of them";
        let mut metric = to.encode_descriptor("policy_orders", help, None, MetricType::Counter)?;
        for (verdict, count) in policies.totals() {
            metric
                .encode_family(&[("verdict", verdict)])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let failures = policies.reload_failures();
        counter(to, "policy_reload_failures", "Changed policies that could not be taken", None, failures)
    }

    fn reloads(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Reloads of the configuration";
        let mut metric = to.encode_descriptor("config_reloads", help, None, MetricType::Counter)?;
        for (outcome, count) in self.0.reloads.counts() {
            metric
                .encode_family(&[("outcome", outcome)])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn waits(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let drain = &self.0.drain;
        gauge(to, "order_backlog", "Orders that workers have not settled", drain.backlog())?;
        let Some(waits) = drain.figures(&self.0.live().config.wait, Instant::now()) else { return Ok(()) };
        let figures = [
            ("order_drain_rate", "Orders that workers settle a second", None, waits.rate_per_s),
            (
                "order_wait",
                "Projected wait of an order of the longest queue",
                Some(&Unit::Seconds),
                waits.wait_s,
            ),
            ("order_wait_margin", "Kept in reserve on top of it", Some(&Unit::Seconds), waits.margin_s),
        ];
        for (name, help, unit, value) in figures {
            to.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn topics(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let topics = self.0.queue.stats();
        let mut metric =
            to.encode_descriptor("topic_appended_messages", "Messages appended", None, MetricType::Counter)?;
        for topic in &topics {
            let labels = [("topic", &*topic.topic)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&topic.appended, None)?;
        }
        let counters: [(&str, &str, Read); 2] = [
            ("group_acked_messages", "Messages acknowledged", |group| group.acked),
            ("group_delivered_messages", "Messages delivered, redeliveries included", |group| {
                group.delivered
            }),
        ];
        let gauges: [(&str, &str, Read); 4] = [
            ("group_backlog_messages", "Messages not settled yet", |group| group.backlog),
            ("group_leased_messages", "Messages under lease", |group| group.leased),
            ("group_dead_letters", "Dead letters kept", |group| group.dead_letters),
            ("group_oldest_age_ms", "Age of the oldest message not settled yet", |group| group.oldest_age_ms),
        ];
        let groups = || {
            topics.iter().flat_map(|topic| {
                topic.groups.iter().map(|group| ([("topic", &*topic.topic), ("group", &*group.group)], group))
            })
        };
        for (name, help, read) in counters {
            let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, group) in groups() {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&read(group), None)?;
            }
        }
        for (name, help, read) in gauges {
            let mut metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, group) in groups() {
                metric.encode_family(&labels)?.encode_gauge(&read(group))?;
            }
        }
        Ok(())
    }
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn counter(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> fmt::Result {
    to.encode_descriptor(name, help, unit, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}
