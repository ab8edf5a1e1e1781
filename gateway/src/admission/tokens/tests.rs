use super::*;
use proptest::prelude::*;

fn settings(rate: TokenRate, burst: u32, wait_ms: u64) -> TokenSettings {
    TokenSettings { rate, burst, wait_max: Duration::from_millis(wait_ms), tokens_per_unit: 0, shared: false }
}

fn queue(rate: u32, burst: u32, wait_ms: u64) -> (TokenQueue, Instant) {
    let start = Instant::now();
    (TokenQueue::new(&settings(TokenRate::Fixed(rate), burst, wait_ms), start), start)
}

fn sale(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn passes(queue: &TokenQueue, now: Instant, sale: &Arc<str>) -> bool {
    matches!(queue.enter(now, sale, 1), Entered::Passes(_))
}

fn waits<'q>(queue: &'q TokenQueue, now: Instant, sale: &Arc<str>) -> Turn<'q> {
    match queue.enter(now, sale, 1) {
        Entered::Waits(turn) => turn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_burst_passes_at_once_and_the_next_ones_wait_their_turn() {
    let (queue, start) = queue(10, 3, 1_000);
    let phone = sale("phone");
    for _ in 0..3 {
        assert!(passes(&queue, start, &phone));
    }
    let (mut first, mut second) = (waits(&queue, start, &phone), waits(&queue, start, &phone));
    assert_eq!(queue.grant_due(start), Some(Duration::from_millis(100)));
    let at = start + Duration::from_millis(100);
    assert_eq!(queue.grant_due(at), Some(Duration::from_millis(100)));
    assert!(first.granted.try_recv().is_ok() && second.granted.try_recv().is_err());
    assert_eq!(queue.grant_due(at + Duration::from_millis(100)), None);
    assert!(second.granted.try_recv().is_ok());
}

#[test]
fn a_refusal_takes_nothing_and_says_when_to_come_back() {
    let (queue, start) = queue(10, 1, 150);
    let phone = sale("phone");
    assert!(passes(&queue, start, &phone));
    let _waits = waits(&queue, start, &phone);
    for _ in 0..5 {
        let Entered::Refused(refusal) = queue.enter(start, &phone, 1) else { panic!("a third token") };
        assert_eq!(refusal.retry_after, Duration::from_millis(50));
    }
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn an_idle_time_fills_the_bucket_to_the_burst_and_no_further() {
    let (queue, start) = queue(1_000, 5, 0);
    let later = start + Duration::from_hours(1);
    assert_eq!((0..100).filter(|_| passes(&queue, later, &sale("phone"))).count(), 5);
}

#[test]
fn off_lets_everybody_pass_and_switching_on_and_off_forgets_nobody() {
    let start = Instant::now();
    let mut settings = settings(TokenRate::Off, 1, 1_000);
    let queue = TokenQueue::new(&settings, start);
    let phone = sale("phone");
    assert!((0..10).all(|_| passes(&queue, start, &phone)));
    settings.rate = TokenRate::Fixed(10);
    queue.reconfigure(&settings, start);
    assert!(passes(&queue, start, &phone));
    let mut turn = waits(&queue, start, &phone);
    settings.rate = TokenRate::Off;
    queue.reconfigure(&settings, start);
    queue.grant_due(start);
    assert!(turn.granted.try_recv().is_ok(), "nobody is left behind when the queue is switched off");
}

/// One client of the crowd goes away, before its turn or with its token in hand: the token goes to the next one.
#[test]
fn who_goes_away_wastes_nobody_elses_token() {
    let (queue, start) = queue(10, 1, 1_000);
    let phone = sale("phone");
    assert!(passes(&queue, start, &phone));
    let [gone, late, mut next] = [(); 3].map(|()| waits(&queue, start, &phone));
    drop(gone);
    let at = start + Duration::from_millis(100);
    queue.grant_due(at);
    assert!(next.granted.try_recv().is_err(), "not its turn yet");
    drop(late);
    queue.grant_due(at);
    assert!(next.granted.try_recv().is_ok());
    assert_eq!(queue.waiting(), 0);
    assert!(!passes(&queue, at, &phone), "and it was one token, not two");
}

/// The hot sale has filled the queue; the small one gets every second token from its first request on.
#[test]
fn fm25_a_sale_that_comes_late_is_not_behind_the_hot_one() {
    let (queue, start) = queue(100, 1, 1_000);
    let (hot, small) = (sale("hot"), sale("small"));
    assert!(passes(&queue, start, &hot));
    let crowd: Vec<Turn<'_>> = (0..100).map(|_| waits(&queue, start, &hot)).collect();
    assert!(matches!(queue.enter(start, &hot, 1), Entered::Refused(_)));
    let mut few: Vec<Turn<'_>> = (0..10).map(|_| waits(&queue, start, &small)).collect();
    for ms in 1..=210 {
        queue.grant_due(start + Duration::from_millis(ms));
    }
    let granted = few.iter_mut().filter_map(|turn| turn.granted.try_recv().ok()).count();
    assert_eq!(granted, 10, "within 210 ms, 21 tokens");
    assert_eq!(queue.waiting(), 100 - 11);
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_in_time_is_a_refusal_and_takes_nothing() {
    let settings = settings(TokenRate::Fixed(10), 1, 300);
    let queue = TokenQueue::new(&settings, now());
    let phone = sale("phone");
    let _used = queue.take(&phone, 1).await.unwrap();
    // Nobody grants here: the timer of the gateway is not running.
    let began = tokio::time::Instant::now();
    let refused = queue.take(&phone, 1).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    assert_eq!((refused.retry_after, queue.waiting()), (Duration::ZERO, 0), "there is one by now");
    let unused = queue.take(&phone, 1).await.unwrap();
    unused.give_back();
    let _used = queue.take(&phone, 1).await.unwrap();
}

proptest! {
    /// Whatever comes, goes away and is granted late, by a clock that steps back as well: no more pass in any time than
    /// rate × time + burst, each sale first in first out, nobody waits while there is a token, nobody beyond `max_wait`
    /// was promised one.
    #[test]
    fn fm21_never_more_than_rate_times_time_plus_burst(
        rate in 1_u32..5_000, burst in 1_u32..50, wait_ms in 0_u64..200,
        steps in proptest::collection::vec((0_u64..20_000, 0_usize..3, 0_u8..8, any::<bool>()), 1..300),
    ) {
        let (queue, start) = queue(rate, burst, wait_ms);
        let names = [sale("a"), sale("b"), sale("c")];
        // Readings of the clock come out of order; no more time has passed than the newest of them tells.
        let (mut now, mut seen) = (start, start);
        let mut waiting: Vec<Vec<Turn<'_>>> = vec![Vec::new(), Vec::new(), Vec::new()];
        let mut passed: Vec<Duration> = Vec::new();
        for (gap_us, which, what, back) in steps {
            now += Duration::from_micros(gap_us);
            let told = if back { now.checked_sub(Duration::from_micros(gap_us / 2)).unwrap_or(now) } else { now };
            seen = seen.max(told);
            match what {
                0 => {
                    let next = queue.grant_due(told);
                    prop_assert!(next.is_none_or(|next| next > Duration::ZERO), "a token is left lying");
                }
                1 => drop(waiting[which].pop()),
                _ => match queue.enter(told, &names[which], which as u32 + 1) {
                    Entered::Passes(_) => {
                        prop_assert_eq!(queue.waiting(), 0, "nobody is overtaken");
                        passed.push(seen - start);
                    }
                    Entered::Waits(turn) => waiting[which].push(turn),
                    Entered::Refused(refusal) => prop_assert!(refusal.retry_after > Duration::ZERO),
                },
            }
            for turns in &mut waiting {
                let granted: Vec<bool> = turns.iter_mut().map(|turn| turn.granted.try_recv().is_ok()).collect();
                prop_assert!(granted.is_sorted_by(|a, b| a >= b), "first in, first out");
                let count = granted.iter().filter(|granted| **granted).count();
                passed.extend(std::iter::repeat_n(seen - start, count));
                turns.drain(..count);
            }
        }
        for (i, from) in passed.iter().enumerate() {
            for (j, to) in passed.iter().enumerate().skip(i) {
                let allowed = to.saturating_sub(*from).as_secs_f64() * f64::from(rate) + f64::from(burst);
                prop_assert!((j - i + 1) as f64 <= allowed + 1e-6);
            }
        }
    }
}
