//! `GET /v1/topics`: backlog, age, rates, leases, dead letters.

use crate::http::{Answer, answer};
use crate::state::Core;
use http::StatusCode;
use tidegate_client::wire::{GroupStats, TopicList, TopicStats};

pub(in crate::api) fn list_topics(core: &Core) -> Answer {
    let rates = &core.app.rates;
    let topics = core.app.queue.stats().into_iter().map(|topic| TopicStats {
        queues: topic.queues,
        appended: topic.appended,
        in_per_second: rates.into_topic(&topic.topic),
        groups: topic
            .groups
            .iter()
            .map(|group| GroupStats {
                group: group.group.clone(),
                backlog: group.backlog,
                oldest_age_ms: group.oldest_age_ms,
                leased: group.leased,
                acked: group.acked,
                delivered: group.delivered,
                dead_letters: group.dead_letters,
                out_per_second: rates.out_of(&topic.topic, &group.group),
            })
            .collect(),
        topic: topic.topic.clone(),
    });
    answer::json(StatusCode::OK, &TopicList { topics: topics.collect() })
}
