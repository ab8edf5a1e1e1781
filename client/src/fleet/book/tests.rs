use super::*;

const A: &str = "http://a:1";
const B: &str = "http://b:1";
const C: &str = "http://c:1";

fn client(url: &str) -> Client {
    Client::new(url).unwrap()
}

fn book(given: &[&str]) -> Book {
    Book::new(given.iter().map(|url| client(url)).collect())
}

/// The list as `this` tells it; entries are ids and addresses.
fn list(this: &str, entries: &[(&str, &str)]) -> Heard {
    let gateway = |(id, inner): &(&str, &str)| Gateway {
        gateway: (*id).to_owned(),
        inner: (!inner.is_empty()).then(|| (*inner).to_owned()),
        this: *id == this,
        ..Gateway::default()
    };
    Heard::List(entries.iter().map(gateway).collect())
}

fn note(book: &mut Book, url: &str, heard: Heard) -> Vec<String> {
    let named = book.note(url, heard, |url| Client::new(url).ok());
    named.iter().map(|client| client.base_url().to_owned()).collect()
}

fn close(book: &mut Book) -> Vec<String> {
    book.close_round().iter().map(|member| format!("{} {}", member.id(), member.url())).collect()
}

#[test]
fn named_address_is_a_member_once_it_answers_as_a_gateway() {
    let mut book = book(&[A]);
    let both = [("g1", A), ("g2", B)];
    assert_eq!(note(&mut book, A, list("g1", &both)), [B]);
    assert_eq!(close(&mut book), ["g1 http://a:1"]);
    assert_eq!(book.addresses().len(), 2, "asked again in the next round");
    assert!(note(&mut book, A, list("g1", &both)).is_empty());
    // It answers, but is in no list of its own: no gateway.
    note(&mut book, B, list("", &both));
    assert_eq!(close(&mut book), ["g1 http://a:1"]);
    note(&mut book, A, list("g1", &both));
    note(&mut book, B, list("g2", &both));
    assert_eq!(close(&mut book), ["g1 http://a:1", "g2 http://b:1"]);
}

#[test]
fn gateway_is_forgotten_only_when_it_is_silent_and_no_list_names_it() {
    let mut book = book(&[A]);
    let (both, alone) = ([("g1", A), ("g2", B)], [("g1", A)]);
    note(&mut book, A, list("g1", &both));
    note(&mut book, B, list("g2", &both));
    close(&mut book);
    // Still named, though it does not answer.
    note(&mut book, A, list("g1", &both));
    note(&mut book, B, Heard::Silence);
    assert_eq!(close(&mut book), ["g1 http://a:1", "g2 http://b:1"]);
    // Nobody answers: nobody says that it is gone.
    note(&mut book, A, Heard::Silence);
    note(&mut book, B, Heard::Silence);
    assert_eq!(close(&mut book).len(), 2);
    // Not named, as when the others' Redis is away, but it answers.
    note(&mut book, A, list("g1", &alone));
    note(&mut book, B, list("g2", &[("g2", B)]));
    assert_eq!(close(&mut book).len(), 2);
    // Somebody else's server has the address by now.
    note(&mut book, A, list("g1", &alone));
    note(&mut book, B, Heard::Refusal);
    assert_eq!(close(&mut book), ["g1 http://a:1"]);
    assert_eq!(book.addresses().len(), 1);
}

#[test]
fn addresses_given_stay_whatever_is_heard() {
    let mut book = book(&[A, B, C]);
    note(&mut book, A, list("g1", &[("g1", A)]));
    note(&mut book, B, Heard::Silence);
    note(&mut book, C, Heard::Refusal);
    let members = close(&mut book);
    assert_eq!(members, ["g1 http://a:1", " http://c:1", " http://b:1"], "the silent one last");
}

#[test]
fn one_gateway_under_several_addresses_is_one_member_under_its_own_where_that_answers() {
    let mut book = book(&[A, B]);
    let fleet = [("g1", C)];
    note(&mut book, A, list("g1", &fleet));
    note(&mut book, B, list("g1", &fleet));
    note(&mut book, C, Heard::Silence);
    assert_eq!(close(&mut book), ["g1 http://a:1"], "its own address cannot be reached from here");
    for url in [A, B, C] {
        note(&mut book, url, list("g1", &fleet));
    }
    assert_eq!(close(&mut book), ["g1 http://c:1"]);
    // It went; the address given leads to it all the same.
    note(&mut book, A, list("g1", &fleet));
    note(&mut book, B, Heard::Silence);
    note(&mut book, C, Heard::Silence);
    assert_eq!(close(&mut book), ["g1 http://a:1"]);
}

#[test]
fn gateway_without_an_id_is_not_found_a_second_time_under_its_own_name() {
    let mut book = book(&[A]);
    assert!(note(&mut book, A, list("", &[("", B)])).is_empty());
    assert!(note(&mut book, A, list("", &[("", "")])).is_empty());
    assert_eq!(close(&mut book), [" http://a:1"]);
}

#[test]
fn nonsense_is_passed_over_and_the_book_stays_small() {
    let mut book = book(&[A]);
    let junk: Vec<(String, String)> =
        (0..10_000).map(|number| (format!("j{number}"), format!("http://junk:{}", 1 + number))).collect();
    let mut entries =
        vec![("g1", A), ("x", "https://b:1"), ("y", "no url"), ("z", "http://b:1/path"), ("w", "")];
    entries.extend(junk.iter().map(|(id, url)| (id.as_str(), url.as_str())));
    for _ in 0..3 {
        note(&mut book, A, list("g1", &entries));
        assert_eq!(close(&mut book), ["g1 http://a:1"]);
        assert_eq!(book.addresses().len(), 1 + FOUND_MAX);
    }
    note(&mut book, A, list("g1", &[("g1", A), ("g2", B)]));
    assert_eq!(close(&mut book).len(), 1);
    assert_eq!(book.addresses().len(), 1, "junk is forgotten");
    assert_eq!(note(&mut book, A, list("g1", &[("g1", A), ("g2", B)])), [B], "and there is room again");
}

#[test]
fn spelling_of_an_address_makes_no_second_member() {
    let mut book = book(&[A]);
    assert!(note(&mut book, A, list("g1", &[("g1", "http://A:1/")])).is_empty());
    assert_eq!(close(&mut book), ["g1 http://a:1"]);
}

#[test]
fn address_that_leads_to_another_gateway_from_here_is_no_member() {
    let local = "http://127.0.0.1:8081";
    let mut book = book(&[A]);
    for _ in 0..3 {
        note(&mut book, A, list("g1", &[("g1", local)]));
        // Here it is somebody else, who calls it its own too.
        assert!(note(&mut book, local, list("g9", &[("g9", local), ("g8", C)])).is_empty());
        assert_eq!(close(&mut book), ["g1 http://a:1"]);
    }
}

#[test]
fn new_gateway_at_an_old_address_is_a_new_member() {
    let mut book = book(&[A]);
    for _ in 0..2 {
        note(&mut book, A, list("g1", &[("g1", A), ("g2", B)]));
        note(&mut book, B, list("g2", &[("g1", A), ("g2", B)]));
    }
    let before = book.close_round();
    // The old heartbeat still stands beside the new one.
    let lists = [("g1", A), ("g2", B), ("g3", B)];
    note(&mut book, A, list("g1", &lists));
    note(&mut book, B, list("g3", &lists));
    assert_eq!(close(&mut book), ["g1 http://a:1", "g3 http://b:1"]);
    assert!(!before.contains(&book.members()[1]));
}
