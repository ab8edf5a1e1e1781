//! Tests of purchase passes, on a clock of their own.

use super::*;
use crate::config::Secret;

const NOW_MS: u64 = 1_800_000_000_000;
const OPENS_MS: u64 = NOW_MS + 60_000;
const SCOPE: Scope<'_> = Scope { sale: "phone", buyer: "ann", opens_at_ms: Some(OPENS_MS) };

fn secret(letter: char) -> Secret {
    Secret::new(&letter.to_string().repeat(32))
}

fn settings() -> PassSettings {
    PassSettings {
        keys: Vec::new(),
        lead_ms: 600_000,
        challenge_ttl_ms: 120_000,
        ttl_ms: 900_000,
        clock_skew_ms: 2_000,
        attempts: 3,
        single_use: true,
        spent_max: 1_600,
        buyer: None,
        ip: None,
    }
}

fn with_keys(keys: &str) -> Passes {
    let keys: Vec<Secret> = keys.chars().map(secret).collect();
    Passes::new(Keys::of_secrets(&keys), &settings(), 1_000)
}

/// What a person, or a program, makes of the question.
fn solve(question: &str) -> String {
    let words: Vec<&str> = question.split(' ').collect();
    let (a, b): (i64, i64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
    match words[1] {
        "+" => a + b,
        "-" => a - b,
        "×" => a * b,
        sign => panic!("{sign}"),
    }
    .to_string()
}

fn pass_of(passes: &Passes, scope: &Scope<'_>, now_ms: u64) -> Pass {
    let challenge = passes.challenge(scope, now_ms);
    passes.exchange(scope, None, &challenge.text, &solve(&challenge.question), now_ms).unwrap()
}

#[test]
fn an_answer_gives_a_pass_that_is_good_from_the_opening_on() {
    let passes = with_keys("a");
    let pass = pass_of(&passes, &SCOPE, NOW_MS);
    assert_eq!(pass.expires_at_ms, OPENS_MS + 900_000, "its time begins when it can be used");
    let late = pass_of(&passes, &SCOPE, OPENS_MS + 5_000);
    assert_eq!(late.expires_at_ms, OPENS_MS + 5_000 + 900_000);
    passes.check(&SCOPE, &pass.text, OPENS_MS).unwrap();
    let challenge = passes.challenge(&SCOPE, NOW_MS);
    let answer = solve(&challenge.question);
    let until = Some(OPENS_MS + 10);
    let short = passes.exchange(&SCOPE, until, &challenge.text, &format!(" {answer}\n"), NOW_MS).unwrap();
    assert_eq!(short.expires_at_ms, OPENS_MS + 10, "no pass outlives its sale");
}

#[test]
fn fm41_a_pass_is_nothing_to_another_buyer_another_sale_or_another_window() {
    let passes = with_keys("a");
    let pass = pass_of(&passes, &SCOPE, NOW_MS).text;
    for scope in [
        Scope { buyer: "bob", ..SCOPE },
        Scope { sale: "phone2", ..SCOPE },
        // The same bytes one after the other, cut elsewhere.
        Scope { sale: "phonea", buyer: "nn", ..SCOPE },
        Scope { opens_at_ms: Some(OPENS_MS + 1), ..SCOPE },
        Scope { opens_at_ms: None, ..SCOPE },
    ] {
        assert_eq!(passes.check(&scope, &pass, OPENS_MS), Err(PassFault::Foreign), "{scope:?}");
        let challenge = passes.challenge(&SCOPE, NOW_MS);
        let answer = solve(&challenge.question);
        let given = passes.exchange(&scope, None, &challenge.text, &answer, NOW_MS);
        assert_eq!(given.unwrap_err(), PassFault::Foreign, "{scope:?}");
    }
}

#[test]
fn fm41_a_pass_and_a_challenge_end_in_time() {
    let passes = with_keys("a");
    let pass = pass_of(&passes, &SCOPE, NOW_MS);
    passes.check(&SCOPE, &pass.text, pass.expires_at_ms + 1_999).unwrap();
    assert_eq!(passes.check(&SCOPE, &pass.text, pass.expires_at_ms + 2_000), Err(PassFault::Expired));
    let challenge = passes.challenge(&SCOPE, NOW_MS);
    let late = passes.exchange(&SCOPE, None, &challenge.text, &solve(&challenge.question), NOW_MS + 122_000);
    assert_eq!(late.unwrap_err(), PassFault::Expired);
}

#[test]
fn fm41_nothing_forged_is_taken() {
    let passes = with_keys("a");
    let pass = pass_of(&passes, &SCOPE, NOW_MS).text;
    for at in 0..pass.len() {
        let mut forged = pass.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(passes.check(&SCOPE, &forged, OPENS_MS), Err(PassFault::Foreign), "character {at}");
    }
    let challenge = passes.challenge(&SCOPE, NOW_MS).text;
    let other = pass_of(&with_keys("b"), &SCOPE, NOW_MS).text;
    for text in ["", "x", &pass[1..], &format!("{pass}A"), &"A".repeat(pass.len()), &challenge, &other] {
        assert_eq!(passes.check(&SCOPE, text, OPENS_MS), Err(PassFault::Foreign), "{text}");
    }
    let swapped = passes.exchange(&SCOPE, None, &pass, "1", NOW_MS);
    assert_eq!(swapped.unwrap_err(), PassFault::Foreign, "a pass is no challenge");
}

#[test]
fn fm41_a_key_that_was_rotated_out_signs_nothing_any_more() {
    let (before, during, after) = (with_keys("a"), with_keys("ba"), with_keys("b"));
    let old = pass_of(&before, &SCOPE, NOW_MS).text;
    let new = pass_of(&during, &SCOPE, NOW_MS).text;
    during.check(&SCOPE, &old, OPENS_MS).unwrap();
    with_keys("ab").check(&SCOPE, &new, OPENS_MS).unwrap();
    after.check(&SCOPE, &new, OPENS_MS).unwrap();
    assert_eq!(after.check(&SCOPE, &old, OPENS_MS), Err(PassFault::Foreign));
}

#[test]
fn fm41_a_pass_is_good_for_one_order() {
    let passes = with_keys("a");
    let challenge = passes.challenge(&SCOPE, NOW_MS);
    let exchange = || passes.exchange(&SCOPE, None, &challenge.text, &solve(&challenge.question), NOW_MS);
    let first = passes.check(&SCOPE, &exchange().unwrap().text, OPENS_MS).unwrap();
    let again = passes.check(&SCOPE, &exchange().unwrap().text, OPENS_MS).unwrap();
    assert_eq!(first, again, "one challenge gives one pass, however often it is asked for");
    passes.spend(first, 1, OPENS_MS).unwrap();
    passes.spend(first, 1, OPENS_MS).unwrap();
    assert_eq!(passes.spend(again, 2, OPENS_MS), Err(PassFault::Spent));
    // As long as the pass could be good, and its second text too.
    assert_eq!(passes.spend(first, 2, OPENS_MS + 900_000 + 120_000), Err(PassFault::Spent));
    passes.give_back(first);
    passes.spend(first, 2, OPENS_MS).unwrap();
}

#[test]
fn wrong_answers_are_counted_and_then_the_right_one_comes_too_late() {
    let passes = with_keys("a");
    let challenge = passes.challenge(&SCOPE, NOW_MS);
    let right = solve(&challenge.question);
    let answer = |text: &str| passes.exchange(&SCOPE, None, &challenge.text, text, NOW_MS);
    for wrong in ["", "9999", "seven"] {
        assert_eq!(answer(wrong).unwrap_err(), PassFault::Wrong);
    }
    assert_eq!(answer(&right).unwrap_err(), PassFault::TooManyWrong);
    pass_of(&passes, &SCOPE, NOW_MS);
}

#[test]
fn the_memory_of_spent_passes_is_bounded_and_a_full_one_refuses_nobody() {
    let passes = with_keys("a");
    for number in 0..10_000 {
        passes.spend(GoodPass { number }, 1, OPENS_MS).unwrap();
    }
    assert_eq!(passes.unremembered(), 10_000 - 1_600);
    assert_eq!(passes.spend(GoodPass { number: 3 }, 2, OPENS_MS), Err(PassFault::Spent));
    passes.spend(GoodPass { number: 9_999 }, 2, OPENS_MS).unwrap();
    // Two spans later all of them have expired, and there is room.
    for later in [OPENS_MS + 3_000_000, OPENS_MS + 6_000_000] {
        passes.spend(GoodPass { number: 3 }, later, later).unwrap();
        assert_eq!(passes.spend(GoodPass { number: 3 }, 7, later), Err(PassFault::Spent));
    }
}

#[test]
fn questions_differ_and_their_answers_are_judged() {
    let passes = with_keys("a");
    let questions: std::collections::HashSet<String> =
        (0..200).map(|_| passes.challenge(&SCOPE, NOW_MS).question).collect();
    assert!(questions.len() > 100, "{}", questions.len());
    for byte in 0..=255 {
        let mut seed = [byte; 32];
        for sign in 0..3 {
            seed[0] = sign;
            let question = Arithmetic.question(&seed);
            assert!(Arithmetic.is_right(&seed, &solve(&question)), "{question}");
            assert!(!Arithmetic.is_right(&seed, "-1"), "{question}");
        }
    }
}

#[test]
fn a_folder_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Passes::open(&settings(), 1_000, folder.path(), None).unwrap();
    let pass = pass_of(&open(), &SCOPE, NOW_MS).text;
    open().check(&SCOPE, &pass, OPENS_MS).unwrap();
    // A disk that takes nothing is no reason not to start.
    Passes::open(&settings(), 1_000, Path::new("/proc/no-folder"), None).unwrap();
    let path = folder.path().join("pass.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = Passes::open(&settings(), 1_000, folder.path(), None).unwrap_err().to_string();
    assert!(refused.contains("pass.key") && refused.contains("keys"), "{refused}");
}

#[test]
fn fm43_changed_settings_forget_no_spent_pass() {
    let folder = tempfile::tempdir().unwrap();
    let before = Passes::open(&settings(), 1_000, folder.path(), None).unwrap();
    let pass = pass_of(&before, &SCOPE, NOW_MS).text;
    before.spend(before.check(&SCOPE, &pass, OPENS_MS).unwrap(), 1, OPENS_MS).unwrap();
    // Nor the key, though its file is gone.
    std::fs::remove_file(folder.path().join("pass.key")).unwrap();
    let changed = PassSettings { ttl_ms: 1_800_000, spent_max: 3_200, ..settings() };
    let after = Passes::open(&changed, 2_000, folder.path(), Some(&before)).unwrap();
    let good = after.check(&SCOPE, &pass, OPENS_MS).unwrap();
    assert_eq!(after.spend(good, 2, OPENS_MS), Err(PassFault::Spent));
    assert_eq!(after.counts().passes.load(Ordering::Relaxed), 1);
}
