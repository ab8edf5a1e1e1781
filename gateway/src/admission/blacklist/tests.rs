//! The list as a whole.

use super::*;

fn client(text: &str) -> Client {
    Client::parse(text).unwrap()
}

fn ban(until_ms: u64, manual: bool) -> Ban {
    Ban { until_ms: Some(until_ms), reason: None, since_ms: 0, manual, times: u32::from(!manual) }
}

fn put(blacklist: &Blacklist, text: &str, ban: Ban, most: usize) -> Result<(), Full> {
    let client = client(text);
    let gone = blacklist.room(&client, &ban, most, 0)?;
    blacklist.put(client, ban, gone.as_ref());
    Ok(())
}

#[test]
fn a_ban_holds_until_it_ends_and_exempt_networks_are_never_hit() {
    let blacklist = Blacklist::open(1, None);
    assert!(!blacklist.has_networks());
    put(&blacklist, "buyer:ann", ban(5_000, true), 10).unwrap();
    assert!(!blacklist.has_networks(), "nobody needs to know the address");
    put(&blacklist, "ip:198.51.100.0/24", Ban { until_ms: None, ..ban(0, true) }, 10).unwrap();
    assert!(blacklist.has_networks());
    let retry_after = Some(Duration::from_secs(4));
    assert_eq!(blacklist.buyer("ann", || 1_000), Err(Banned { retry_after }));
    assert_eq!(blacklist.buyer("ann", || 5_000), Ok(()));
    assert_eq!(blacklist.buyer("ben", || panic!("the clock is not asked")), Ok(()));
    let address: IpAddr = [198, 51, 100, 7].into();
    assert_eq!(blacklist.address(address, &[], || 1_000), Err(Banned { retry_after: None }));
    let office = ["198.51.100.0/28".parse().unwrap()];
    assert_eq!(blacklist.address(address, &office, || 1_000), Ok(()));
    assert!(blacklist.remove(&client("ip:198.51.100.9/24")));
    assert_eq!(blacklist.address(address, &[], || 1_000), Ok(()));
}

#[test]
fn a_full_list_takes_no_more_of_the_judge_and_an_operators_ban_takes_the_place_of_one() {
    let blacklist = Blacklist::open(1, None);
    for (text, until_ms) in [("buyer:a", 9_000), ("buyer:b", 7_000), ("buyer:c", 8_000)] {
        put(&blacklist, text, ban(until_ms, false), 3).unwrap();
    }
    assert_eq!(put(&blacklist, "buyer:d", ban(1, false), 3), Err(Full));
    put(&blacklist, "buyer:b", ban(20_000, false), 3).unwrap();
    for text in ["buyer:d", "buyer:e", "buyer:f"] {
        put(&blacklist, text, ban(9_000, true), 3).unwrap();
    }
    let names: Vec<_> = blacklist.list(0).into_iter().map(|(client, _)| client.to_string()).collect();
    assert_eq!(names, ["buyer:d", "buyer:e", "buyer:f"]);
    assert_eq!(put(&blacklist, "buyer:g", ban(9_000, true), 3), Err(Full));
    assert_eq!(blacklist.counts(), (4, 2));
}

#[test]
fn bans_live_in_the_data_folder_and_a_broken_file_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Blacklist::open(1, Some(dir.path()));
    let blacklist = open();
    let told = Ban { reason: Some("resells".to_owned()), until_ms: None, ..ban(0, true) };
    put(&blacklist, "buyer:ann", told.clone(), 10).unwrap();
    put(&blacklist, "ip:2001:db8::7", ban(9_000, false), 10).unwrap();
    blacklist.keep().unwrap();
    let again = open();
    assert_eq!(again.list(0), blacklist.list(0));
    assert_eq!(again.get(&client("buyer:ann")), Some(told));
    assert!(again.buyer("ann", || 0).is_err());
    std::fs::write(dir.path().join("blacklist.json"), "[{\"client\":").unwrap();
    assert!(open().list(0).is_empty());
}

#[test]
fn an_ended_ban_is_remembered_as_long_as_repetition_counts() {
    let blacklist = Blacklist::open(1, None);
    put(&blacklist, "buyer:ann", ban(5_000, false), 10).unwrap();
    put(&blacklist, "buyer:ben", ban(5_000, true), 10).unwrap();
    assert!(blacklist.forgotten(4_999, 60_000).is_empty());
    assert_eq!(blacklist.forgotten(5_000, 60_000), [client("buyer:ben")]);
    assert_eq!(blacklist.forgotten(65_000, 60_000).len(), 2);
    assert!(blacklist.list(5_000).is_empty());
}
