//! What the connections of one core hold together of content that has not come whole, and for how
//! long.

use super::*;

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn post(fields: &str, content: &str) -> String {
    request("POST /whole HTTP/1.1", fields) + content
}

fn length(length: usize) -> String {
    format!("Content-Length: {length}\r\n")
}

fn held(scene: &Scene) -> u64 {
    scene.counters.bytes_collected.value()
}

/// Goes on with another connection of the same core.
fn next(scene: &mut Scene) -> Session {
    std::mem::replace(&mut scene.session, Session::open(&scene.core))
}

#[test]
fn content_that_finds_no_room_beside_that_of_others_is_a_503() {
    let mut scene = scene_of(Limits { collected_bytes_max: 10_000, ..Limits::default() });
    scene.receive(post(&length(8000), &"x".repeat(7000)));
    assert_eq!(held(&scene), 8000, "no more than will come");
    let mut first = next(&mut scene);

    // Before it comes, if its length says so, and when it comes, if nothing does.
    let awaited = format!("{}Expect: 100-continue\r\n", length(2001));
    let chunk = format!("{:x}\r\n{}\r\n", 2001, "x".repeat(2001));
    for (input, overflows) in [(post(&awaited, ""), 1), (post(CHUNKED, &chunk), 2)] {
        scene.receive(input);
        let sent = scene.sent();
        assert!(sent.starts_with("HTTP/1.1 503 ") && sent.contains("\r\nRetry-After: 1\r\n"));
        assert!(sent.ends_with("(collected_bytes_max).\n") && scene.is_closing(), "{sent}");
        assert_eq!((scene.counters.collected_overflows.value(), held(&scene)), (overflows, 8000));
        next(&mut scene);
    }

    // What is there in one piece is not collected, and what fits is.
    scene.receive(post(&length(3000), &"x".repeat(3000)));
    scene.receive(post(&length(2000), "x"));
    assert_eq!((scene.statuses(), held(&scene)), (vec![200], 10_000));
    scene.receive("x".repeat(1999));
    assert_eq!((scene.statuses(), held(&scene)), (vec![200], 8000));

    std::mem::swap(&mut scene.session, &mut first);
    scene.receive("x".repeat(1000));
    assert_eq!((scene.statuses(), held(&scene)), (vec![200], 0));
    assert_eq!(scene.counters.collected_overflows.value(), 2);
}

#[test]
fn an_upgrade_whose_content_finds_no_room_is_one_that_does_not_fit() {
    let mut scene = scene_of(Limits { collected_bytes_max: 3, ..Limits::default() });
    let fields = format!("Connection: Upgrade\r\nUpgrade: echo\r\n{}", length(4));
    scene.receive(request("POST /body HTTP/1.1", &fields) + "abc");
    assert_eq!((scene.statuses(), scene.results()), (vec![503], vec![("upgrades_unfit", 1)]));
}

#[test]
fn nothing_is_held_any_more_whatever_becomes_of_a_content() {
    type End = fn(&mut Scene);
    let rest: End = |scene| scene.receive("x".repeat(5000) + "\r\n0\r\n\r\n");
    let ends: [(&str, End, Option<u16>); 8] = [
        ("/whole", rest, Some(200)),
        ("/panic", rest, Some(500)),
        ("/later", rest, None),
        ("/whole", |scene| scene.receive("x".repeat(5000) + "\r\n2000\r\n"), Some(413)),
        ("/whole", |scene| scene.receive("x".repeat(5000) + "no chunk"), Some(400)),
        ("/whole", |scene| assert!(scene.expire() > 0), Some(408)),
        ("/whole", |scene| scene.call(|session, port| session.ended(port)), None),
        (
            "/whole",
            |scene| {
                let Scene { session, core, .. } = scene;
                session.close(1, CloseReason::PeerReset, core);
            },
            None,
        ),
    ];
    let mut registry = registry();
    let panic = |_: &Request<'_>, _: &[u8], _: &mut Reply<'_>| {
        std::panic::resume_unwind(Box::new("as it should"));
    };
    registry.insert("/panic", Resource::new().post(panic));
    registry.insert("/later", Resource::new().post(later));
    for (number, (path, end, status)) in ends.into_iter().enumerate() {
        let limits = Limits { content_bytes_max: 10_000, ..Limits::default() };
        let mut scene = Scene::serving(registry.clone(), limits);
        let head = request(&format!("POST {path} HTTP/1.1"), CHUNKED);
        scene.receive(head + "1770\r\n" + &"x".repeat(1000));
        assert_eq!(held(&scene), 4096, "{number}: {path}");
        end(&mut scene);
        assert_eq!(held(&scene), 0, "{number}: {path}");
        assert_eq!(scene.statuses(), Vec::from_iter(status), "{number}: {path}");
    }
    RESPONSES.take();
}

#[test]
fn a_stopping_server_and_a_session_that_is_dropped_hold_nothing() {
    let mut scene = scene_of(Limits::default());
    scene.receive(post(&length(5000), "x"));
    scene.core.is_draining = true;
    scene.call(|session, port| session.drain(Duration::from_secs(1), port));
    assert_eq!(held(&scene), 4096, "it may still come");
    let Scene { session, core, .. } = &mut scene;
    session.close(1, CloseReason::Drained, core);
    assert_eq!(held(&scene), 0);

    next(&mut scene);
    scene.receive(post(&length(5000), "x"));
    drop(next(&mut scene));
    assert_eq!(held(&scene), 0);
}

#[test]
fn what_a_client_sent_at_once_does_not_buy_it_more_than_the_slack() {
    // Bytes a second behind nine tenths at once, and the seconds for which that goes: the slack alone,
    // the slack at half the debt, and as long as one likes.
    for (bytes, expected) in [(0, 20), (120, 39), (240, 300)] {
        let mut scene = scene_of(Limits::default());
        scene.receive(post(&length(1_000_000), &"x".repeat(900_000)));
        let mut seconds = 0;
        while seconds < 300 {
            seconds += 1;
            scene.core.now += 1000;
            if scene.session.control().deadline <= scene.core.now {
                break;
            }
            scene.receive("x".repeat(bytes));
        }
        assert_eq!(seconds, expected, "{bytes} bytes a second");
        if seconds < 300 {
            scene.call(|session, port| session.deadline_reached(port));
            assert_eq!((scene.statuses(), held(&scene)), (vec![408], 0));
        }
    }
}
