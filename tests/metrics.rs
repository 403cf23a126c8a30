//! What the metrics say is what has happened: every answer is counted once under its status, every
//! offer under its protocol and result, times are those of the clock; and the text can be read by those
//! for whom it is written. On the whole engine and the simulated kernel, then over loopback.

#[path = "support/inside_tls.rs"]
mod inside_tls;
#[path = "support/process.rs"]
mod process;
#[path = "metrics/scene.rs"]
mod scene;
#[path = "metrics/served.rs"]
mod served;
#[path = "metrics/tls.rs"]
mod tls;
#[path = "metrics/watched.rs"]
mod watched;

use std::collections::BTreeMap;
use std::fs;

use scene::Scene;
use upring::config::Limits;
use upring::counters::{Counters, UpgradeResult};
use upring::metrics::LIMIT_HITS;
use upring::ring::sim::{Fault, Faults};

/// A conversation on a connection of its own, and the statuses that come of it.
struct Case {
    name: &'static str,
    play: fn(&mut Scene),
    statuses: &'static [u16],
}

const fn case(name: &'static str, play: fn(&mut Scene), statuses: &'static [u16]) -> Case {
    Case { name, play, statuses }
}

/// Every way there is to be answered.
const CASES: &[Case] = &[
    case("ready", |scene| scene.ask("GET /"), &[200]),
    case("ready, to HEAD", |scene| scene.ask("HEAD /"), &[200]),
    case("written in place", |scene| scene.ask("GET /written"), &[202]),
    case("written with an interim status", |scene| scene.ask("GET /interim"), &[500]),
    case("written wrong", |scene| scene.ask("GET /miswritten"), &[500]),
    case("returned", |scene| scene.ask("GET /returned"), &[404]),
    case("pipelined", |scene| scene.say(&"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)), &[200; 3]),
    case("promised and kept", |scene| scene.ask_and_keep(), &[201]),
    case("promised and broken", |scene| scene.ask_and_break(), &[503]),
    case("promised and late", |scene| scene.ask_and_wait("GET /later", 60_001), &[503]),
    case("streamed at once", |scene| scene.post("/streamed", "12345"), &[203]),
    case("streamed in pieces", |scene| scene.ask("GET /pieces"), &[206]),
    case("streamed by nobody", |scene| scene.ask("GET /unfit"), &[500]),
    case("streamed too large", |scene| scene.post_in_chunks("/small", "5\r\n12345\r\n"), &[413]),
    case("content whole", |scene| scene.post("/whole", "12345"), &[200]),
    case("content in pieces", |scene| scene.post_in_pieces("/whole", "12345"), &[200]),
    case("content too large", |scene| scene.post("/small-whole", "12345"), &[413]),
    case("content that nobody reads", |scene| scene.post("/unread", "12345"), &[200]),
    case("content in no coding", |scene| scene.post_in_chunks("/whole", "x"), &[400]),
    case("content too late", |scene| scene.post_never("/whole"), &[408]),
    case("a handler that panics", |scene| scene.ask("GET /panics"), &[500]),
    case("nothing there", |scene| scene.ask("GET /none"), &[404]),
    case("not this method", |scene| scene.ask("POST /"), &[405]),
    case("what is allowed", |scene| scene.ask("OPTIONS /"), &[204]),
    case("no known method", |scene| scene.ask("BREW /"), &[501]),
    case("no known version", |scene| scene.say("GET / HTTP/3.0\r\n\r\n"), &[505]),
    case("a faulty head", |scene| scene.say("GET / HTTP/1.1\r\n\r\n"), &[400]),
    case("another scheme", |scene| scene.ask("GET https://a/"), &[421]),
    case("a head too large", |scene| scene.say(&format!("GET /{:40000}", "")), &[414]),
    case("a head too late", |scene| scene.say_and_wait("GET / HT", 10_001), &[408]),
    case("switched", |scene| scene.offer("/echo", "echo", ""), &[101]),
    case("switched later", |scene| scene.offer_and_keep(), &[101]),
    case("decided too late", |scene| scene.offer_and_wait(10_001), &[503]),
    case("declined", |scene| scene.offer("/declines", "echo", ""), &[403]),
    case("declined, closing", |scene| scene.offer("/guarded", "guarded", "early"), &[403]),
    case("without an offer", |scene| scene.ask("GET /echo"), &[426]),
    case("a tunnel", |scene| scene.say("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"), &[200]),
    case("no connection made of it", |scene| scene.say(""), &[]),
];

#[test]
fn every_answer_is_counted_once_and_under_its_status() {
    let mut all = Scene::new();
    let mut expected = BTreeMap::new();
    for case in CASES {
        all.connect();
        let (before, timed) = (all.statuses(), all.counters.request_times.count());
        (case.play)(&mut all);
        assert_eq!(all.answers(), case.statuses, "{}: what was answered", case.name);
        let mut counted = all.statuses();
        for (status, count) in before {
            *counted.get_mut(&status).expect("a count does not go") -= count;
        }
        counted.retain(|_, count| *count > 0);
        let mut here = BTreeMap::new();
        for status in case.statuses {
            *here.entry(*status).or_insert(0_u64) += 1;
            *expected.entry(*status).or_insert(0_u64) += 1;
        }
        assert_eq!(counted, here, "{}: what was counted", case.name);
        let timed = all.counters.request_times.count() - timed;
        assert_eq!(timed, case.statuses.len() as u64, "{}: what was timed", case.name);
    }
    assert_eq!(all.statuses(), expected);
    assert_eq!(all.counters.requests.value(), expected.values().sum::<u64>());
}

/// An offer, what follows it on the wire, and what it is counted as.
type Offer = (fn(&mut Scene), &'static str, UpgradeResult);

#[test]
fn every_offer_of_a_registered_protocol_is_counted_under_its_name_and_result() {
    let offers: &[Offer] = &[
        (|scene| scene.offer("/echo", "ECHO", ""), "echo", UpgradeResult::Switched),
        (|scene| scene.offer("/declines", "echo", ""), "echo", UpgradeResult::Declined),
        (|scene| scene.offer("/guarded", "guarded", ""), "guarded", UpgradeResult::Declined),
        (
            |scene| scene.offer("/guarded", "x, guarded", "early"),
            "guarded",
            UpgradeResult::EarlyBytesRefused,
        ),
        (|scene| scene.offer_with("POST /echo", "echo", ""), "echo", UpgradeResult::Unfit),
        (|scene| scene.offer_and_wait(10_001), "slow", UpgradeResult::Timeout),
        (|scene| scene.offer_and_break(), "slow", UpgradeResult::Timeout),
        (|scene| scene.offer_and_keep(), "slow", UpgradeResult::Switched),
        (
            |scene| scene.say("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            "tunnel",
            UpgradeResult::Switched,
        ),
        (
            |scene| scene.say("CONNECT no:1 HTTP/1.1\r\nHost: no:1\r\n\r\n"),
            "tunnel",
            UpgradeResult::Declined,
        ),
    ];
    let mut all = Scene::new();
    for (offer, token, result) in offers {
        all.connect();
        let before = all.upgrades();
        offer(&mut all);
        let mut after = all.upgrades();
        for (key, count) in before {
            *after.get_mut(&key).expect("a count does not go") -= count;
        }
        after.retain(|_, count| *count > 0);
        let expected = BTreeMap::from([(((*token).to_owned(), result.name()), 1)]);
        assert_eq!(after, expected, "{:?}", all.answers());
    }
    // Each is in the sum over all protocols, too.
    let sums = ["switched", "declined", "unfit", "early_bytes_refused", "timeout"];
    for result in sums {
        let by_token: u64 =
            all.upgrades().iter().filter(|((_, at), _)| *at == result).map(|(_, n)| n).sum();
        assert_eq!(all.count(&format!("upgrades_{result}")), by_token, "{result}");
    }
}

#[test]
fn what_a_client_makes_up_becomes_no_label() {
    let mut scene = Scene::new();
    for name in ["made-up", "websocket", "echo;q=1", "other"] {
        scene.connect();
        scene.offer("/echo", name, "");
    }
    let text = scene.text();
    assert!(!text.contains("made-up") && !text.contains("token=\"websocket\""), "{text}");
    for (result, count) in [("unknown", 3), ("malformed", 1), ("http10", 0)] {
        let line = format!("upring_upgrades_total{{token=\"\",result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn gauges_of_a_protocol_go_up_and_down_again() {
    let mut scene = Scene::new();
    let of = |counters: &Counters, token: &str| {
        let (_, found) = counters.upgrades.each().find(|(name, _)| *name == token).expect("it is");
        (found.open.value(), found.deciding.value())
    };
    scene.connect();
    scene.offer("/slow", "slow", "");
    assert_eq!(of(&scene.counters, "slow"), (0, 1));
    scene.keep_decision();
    assert_eq!(of(&scene.counters, "slow"), (1, 0));
    scene.finish();
    assert_eq!(of(&scene.counters, "slow"), (0, 0));
    // A client that goes while it waits leaves nothing behind.
    scene.connect();
    scene.offer("/slow", "slow", "");
    scene.reset();
    assert_eq!(of(&scene.counters, "slow"), (0, 0));
}

#[test]
fn times_are_those_between_the_turns_of_a_request_and_its_answer() {
    const MILLI: u64 = 1_000_000;
    let mut scene = Scene::new();
    scene.connect();
    scene.ask("GET /");
    let times = &scene.counters.request_times;
    assert_eq!((times.count(), times.sum()), (1, 0), "time stands still within a turn");
    scene.ask("GET /later");
    scene.pass(250);
    scene.keep_answer();
    let times = &scene.counters.request_times;
    assert_eq!((times.count(), times.sum()), (2, 250 * MILLI));
    // The bounds are 2^n microseconds: 250 ms are in that up to 262.144 ms.
    assert_eq!(times.counts().nth(18), Some(1));
    // Content that comes late is a part of its request.
    scene.post_in_two("/whole", 30);
    assert_eq!(scene.counters.request_times.sum(), 280 * MILLI);
    scene.connect();
    scene.offer("/slow", "slow", "");
    scene.pass(40);
    scene.keep_decision();
    scene.pass(1000);
    scene.finish();
    let Counters { decision_times, switched_times, .. } = &*scene.counters;
    assert_eq!((decision_times.count(), decision_times.sum()), (1, 40 * MILLI));
    assert_eq!((switched_times.count(), switched_times.sum()), (1, 1000 * MILLI));
}

#[test]
fn a_send_that_does_not_fit_is_counted_as_short() {
    let mut scene = Scene::with(Faults { partial_send: 0.5, ..Faults::none() });
    scene.connect();
    (0..20).for_each(|_| scene.ask("GET /"));
    let short = scene.struck(Fault::PartialSend);
    assert!(short > 0 && scene.answers() == [200; 20]);
    assert_eq!(scene.count("sends_short"), short);
}

#[test]
fn a_connection_too_many_is_told_from_one_that_its_client_has_too_many_of() {
    for (limits, expected) in [
        (Limits { connections_max: 1, ..Limits::default() }, (1, 0)),
        (Limits { connections_per_client_max: 1, ..Limits::default() }, (0, 1)),
    ] {
        let mut scene = Scene::within(limits);
        (0..2).for_each(|_| drop(scene.connect()));
        scene.pass(1);
        let counted = (scene.count("connections_over_limit"), scene.count("clients_over_limit"));
        assert_eq!((counted, scene.count("connections_refused")), (expected, 1));
    }
}

#[test]
fn every_limit_is_shown_by_its_name_or_with_one_that_has_the_same_counter() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/README.md"));
    let page = page.expect("it is part of the package");
    for (limit, _) in Limits::default().each() {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{limit}` |")));
        let cell = row.and_then(|row| row.rsplit('|').nth(1)).expect("a row with its counters");
        let counters: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let shown = LIMIT_HITS.iter().find(|(name, _)| *name == limit);
        match shown {
            Some((_, counter)) => assert!(counters.contains(counter), "{limit}: {counters:?}"),
            None => assert!(
                LIMIT_HITS.iter().any(|(_, counter)| counters.contains(counter)),
                "{limit}: no hits of {counters:?} are shown"
            ),
        }
    }
    let mut counters: Vec<_> = LIMIT_HITS.iter().map(|(_, counter)| counter).collect();
    counters.sort();
    counters.dedup();
    assert_eq!(counters.len(), LIMIT_HITS.len(), "no hit is counted twice");
}
