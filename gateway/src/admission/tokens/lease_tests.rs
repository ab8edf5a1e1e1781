//! Against a real Redis.

use super::*;
use std::sync::Arc;
use tidegate_stock::testing::redis::RedisServer;

fn options(server: &RedisServer) -> Arc<RedisOptions> {
    Arc::new(RedisOptions { call_timeout: Duration::from_secs(5), ..server.options() })
}

/// Numbers that are the same in each run (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Three gateways, one of which starts anew now and then, at a Redis whose clock is set back and ahead by a second up to an
/// hour: in no time `t` are more than `rate × t + size` tokens leased, and they are not fewer by much.
#[tokio::test]
async fn fm21_redis_clock_stepping_leases_no_more_tokens() {
    let server = RedisServer::start();
    let options = options(&server);
    let terms = Terms::new(1_000, 1_000);
    let mut lessors: Vec<Lessor> = (0..3).map(|_| Lessor::new(&options)).collect();
    let mut numbers = Numbers(21);
    let start = Instant::now() + Duration::from_secs(1_000);
    let (mut true_us, mut ahead_us) = (0_u64, 0_i64);
    let mut leased: Vec<(u64, u64)> = Vec::new();
    let (mut steps, mut starts) = (0, 0);
    for _ in 0..4_000 {
        true_us += numbers.below(40_000);
        if numbers.below(100) == 0 {
            let by = 1_000_000 + numbers.below(3_600_000_000) as i64;
            ahead_us += if numbers.below(2) == 0 { by } else { -by };
            steps += 1;
        }
        let lessor = &mut lessors[numbers.below(3) as usize];
        if numbers.below(200) == 0 {
            *lessor = Lessor::new(&options);
            starts += 1;
        }
        let redis_us = (1_700_000_000_000_000 + true_us as i64 + ahead_us) as u64;
        lessor.times = Some((start + Duration::from_micros(true_us), redis_us));
        let granted = lessor.lease(&terms, numbers.below(200) as u32).await.unwrap();
        leased.push((true_us, granted.tokens.into()));
    }
    for (i, (from, _)) in leased.iter().enumerate() {
        let mut sum = 0;
        for (to, tokens) in &leased[i..] {
            sum += tokens;
            let allowed = (to - from) * u64::from(terms.rate_per_s) / 1_000_000 + u64::from(terms.size);
            assert!(sum <= allowed, "{sum} in {} us, {allowed} may", to - from);
        }
    }
    let all: u64 = leased.iter().map(|(_, tokens)| tokens).sum();
    let due = true_us / 1_000;
    println!("{all} leased of {due}, {steps} steps, {starts} starts");
    assert!(all * 10 >= due * 7, "{all} leased of {due}: a step costs little");
}

/// Eight gateways that ask at once for more than there is.
#[tokio::test]
async fn fm22_a_lot_is_read_and_taken_in_one_step() {
    let server = RedisServer::start();
    let options = options(&server);
    let terms = Terms::new(1_000, 1_000);
    let mut first = Lessor::new(&options);
    assert_eq!(first.lease(&terms, 1_000).await.unwrap().tokens, 0, "a new bucket is empty");
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let filled = first.lease(&terms, 0).await.unwrap();
    assert_eq!(filled.next, Duration::ZERO, "full");
    let mut sum = 0;
    for _ in 0..20 {
        let mut lessors: Vec<Lessor> = (0..8).map(|_| Lessor::new(&options)).collect();
        let calls = lessors.iter_mut().map(|lessor| lessor.lease(&terms, 100));
        for granted in futures_join(calls).await {
            sum += u64::from(granted.unwrap().tokens);
        }
    }
    let most = u64::from(terms.size) + began.elapsed().as_millis() as u64;
    println!("{sum} leased, at most {most} may");
    assert!(sum >= u64::from(terms.size) && sum <= most, "{sum} leased, at most {most} may");
}

async fn futures_join<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut answers: Vec<Option<F::Output>> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(ready) = call.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// The bucket is lost, with all keys or with its server: it is empty then, not full.
#[tokio::test]
async fn fm20_a_redis_that_forgot_gives_no_second_burst() {
    let mut server = RedisServer::append_only("always");
    let options = options(&server);
    let terms = Terms::new(1_000, 1_000);
    let mut lessor = Lessor::new(&options);
    lessor.lease(&terms, 0).await.unwrap();
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(lessor.lease(&terms, 1_000).await.unwrap().tokens >= terms.size, "a full bucket");
        match round {
            0 => drop(server.command(&["FLUSHALL"])),
            _ => server.restart(),
        }
        let began = Instant::now();
        let granted = loop {
            if let Ok(granted) = lessor.lease(&terms, 1_000).await {
                break granted.tokens;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "Redis comes back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(granted, 0, "round {round}");
    }
}
