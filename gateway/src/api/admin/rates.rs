//! Messages a second: an exponentially weighted mean over about ten seconds, sampled once a second.

use crate::state::Core;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::rc::Rc;
use std::time::Duration;
use tidegate_queue::TopicStats;
use tokio::time::{Instant, MissedTickBehavior, interval};

const SAMPLE: Duration = Duration::from_secs(1);
/// Weight of the newest second.
const NEWEST: f64 = 0.2;

/// Rates of topics and groups. As bounded as the topics and groups themselves.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<Key, Rate>>);

/// Topic, and group for what leaves it.
type Key = (String, Option<String>);

#[derive(Debug, Clone, Copy)]
struct Rate {
    count: u64,
    per_second: f64,
}

impl Rates {
    /// Messages that enter the topic a second.
    pub fn into_topic(&self, topic: &str) -> f64 {
        self.get(&(topic.to_owned(), None))
    }

    /// Messages that the group acknowledges a second.
    pub fn out_of(&self, topic: &str, group: &str) -> f64 {
        self.get(&(topic.to_owned(), Some(group.to_owned())))
    }

    fn get(&self, key: &Key) -> f64 {
        // Two digits are more than the method knows.
        self.0.lock().get(key).map_or(0.0, |rate| (rate.per_second * 100.0).round() / 100.0)
    }

    /// Takes in the counts after `elapsed` since the sample before.
    fn sample(&self, stats: &[TopicStats], elapsed: Duration) {
        let mut rates = self.0.lock();
        let mut take = |key: Key, count: u64| {
            let rate = rates.entry(key).or_insert(Rate { count, per_second: 0.0 });
            let now = count.saturating_sub(rate.count) as f64 / elapsed.as_secs_f64().max(0.001);
            rate.per_second += (now - rate.per_second) * NEWEST;
            rate.count = count;
        };
        for topic in stats {
            take((topic.topic.clone(), None), topic.appended);
            for group in &topic.groups {
                take((topic.topic.clone(), Some(group.group.clone())), group.acked);
            }
        }
    }
}

/// Samples until the gateway stops.
pub(crate) async fn run_rates(core: Rc<Core>) {
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                core.app.rates.sample(&core.app.queue.stats(), before.elapsed());
                before = Instant::now();
            }
            () = core.app.stopping.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(appended: u64) -> TopicStats {
        TopicStats { topic: "t".into(), queues: 1, appended, groups: Vec::new() }
    }

    #[test]
    fn a_steady_flow_is_told_and_an_ended_one_forgotten() {
        let rates = Rates::default();
        for second in 0..60 {
            rates.sample(&[topic(second * 100)], SAMPLE);
        }
        assert!((rates.into_topic("t") - 100.0).abs() < 1.0, "{}", rates.into_topic("t"));
        for _ in 0..60 {
            rates.sample(&[topic(5_900)], SAMPLE);
        }
        assert!(rates.into_topic("t") < 0.1);
        assert!(rates.into_topic("other") == 0.0 && rates.out_of("t", "g") == 0.0);
    }
}
