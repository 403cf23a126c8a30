//! What the simulated kernel promises: the same seed gives the same world, every fault happens, no
//! byte moves out of order, and an engine that breaks a rule hears of it. In `echo` a small engine
//! lives through 2000 worlds.

mod echo;

use super::*;
use crate::buffer::Lease;
use crate::ring::{Accepts, Errno, NEVER, Wait};

const LISTENER: ListenerId = ListenerId(0);
const TOKEN: Token = Token { slot: 0, generation: 1 };

fn without_faults() -> SimConfig {
    SimConfig { faults: Faults::none(), ..SimConfig::default() }
}

fn with(change: impl FnOnce(&mut Faults)) -> SimConfig {
    let mut config = without_faults();
    change(&mut config.faults);
    config
}

/// Everything that completes now, and later if nothing does now.
fn completions(kernel: &mut Simulation) -> Vec<Completion> {
    kernel.enter(Wait::ForOne).expect("a simulation always enters");
    std::iter::from_fn(|| kernel.complete()).collect()
}

/// Everything that ever completes by itself.
fn all_completions(kernel: &mut Simulation) -> Vec<Completion> {
    let mut all = Vec::new();
    while kernel.world().next_event_at().is_some() {
        all.extend(completions(kernel));
    }
    all
}

/// One accepted connection.
fn accepted(seed: u64, config: SimConfig) -> (Simulation, World, Client, Handle) {
    let mut kernel = Simulation::new(seed, config);
    let world = kernel.world();
    let client = world.connect(LISTENER);
    kernel.accept(LISTENER, Accepts::Many);
    let handle = loop {
        match completions(&mut kernel).pop() {
            Some(Completion::Accepted { result: Ok(handle), .. }) => break handle,
            Some(Completion::Accepted { more: false, .. }) => {
                kernel.accept(LISTENER, Accepts::Many)
            }
            other => panic!("{other:?}"),
        }
    };
    (kernel, world, client, handle)
}

fn batch(bytes: &[u8]) -> Box<Batch> {
    let mut batch = Box::<Batch>::default();
    batch.append(|text| text.extend_from_slice(bytes));
    batch
}

/// What receives said, in short: bytes, `end`, or the error; `.` behind the last one.
fn said(completions: Vec<Completion>) -> Vec<String> {
    let said = completions.into_iter().filter_map(|completion| {
        let Completion::Received { result, more, .. } = completion else { return None };
        let text = match result {
            Ok(Some(lease)) => String::from_utf8_lossy(&lease).into_owned(),
            Ok(None) => "end".to_owned(),
            Err(errno) => errno_name(errno),
        };
        Some(if more { text } else { text + "." })
    });
    said.collect()
}

fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::NOBUFS => "NOBUFS",
        Errno::CANCELED => "CANCELED",
        Errno::CONNRESET => "CONNRESET",
        Errno::PIPE => "PIPE",
        _ => return format!("{errno:?}"),
    };
    name.to_owned()
}

/// What one send says when it completes now.
fn sent(kernel: &mut Simulation) -> Option<Result<usize, String>> {
    completions(kernel).into_iter().find_map(|completion| match completion {
        Completion::Sent { result, .. } => Some(result.map_err(errno_name)),
        _ => None,
    })
}

mod receiving {
    use super::*;

    #[test]
    fn brings_every_chunk_and_then_the_end() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        kernel.receive(TOKEN, handle, Receipts::Many);
        client.write(b"one");
        client.write(b"two");
        assert_eq!(said(completions(&mut kernel)), ["onetwo"]);
        client.write(&[b'x'; 1500]);
        client.finish();
        assert_eq!(
            said(completions(&mut kernel)),
            ["x".repeat(1024), "x".repeat(476), "end.".to_owned()]
        );
        kernel.receive(TOKEN, handle, Receipts::Many);
        assert_eq!(said(completions(&mut kernel)), ["end."], "an end stays an end");
    }

    #[test]
    fn one_receipt_is_one_buffer_and_the_end_of_the_receive() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        client.write(&[b'x'; 1500]);
        for len in [1024, 476] {
            kernel.receive(TOKEN, handle, Receipts::One);
            match &completions(&mut kernel)[..] {
                [Completion::Received { result: Ok(Some(lease)), more: false, .. }] => {
                    assert_eq!(lease.len(), len);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_watch_hears_of_a_reset_and_not_of_an_end() {
        for is_stopped in [false, true] {
            let (mut kernel, world, client, handle) = accepted(1, without_faults());
            kernel.watch(TOKEN, handle);
            client.write(b"unread");
            client.finish();
            assert!(completions(&mut kernel).is_empty());
            if is_stopped {
                kernel.stop_watch(TOKEN);
            } else {
                client.reset();
            }
            let told = completions(&mut kernel);
            let [Completion::Watched { is_lost, more, .. }] = &told[..] else { panic!("{told:?}") };
            assert_eq!(*is_lost, !is_stopped);
            if *more {
                kernel.stop_watch(TOKEN);
                let told = completions(&mut kernel);
                assert!(matches!(
                    &told[..],
                    [Completion::Watched { is_lost: false, more: false, .. }]
                ));
            }
            assert_eq!(world.in_flight(), 0);
        }
    }

    #[test]
    fn an_exact_write_is_one_completion_whatever_the_faults() {
        for seed in 0..200 {
            let config = with(|faults| {
                (faults.partial_receive, faults.delayed, faults.delay_ms_max) = (0.9, 0.3, 9)
            });
            let (mut kernel, _, client, handle) = accepted(seed, config);
            kernel.receive(TOKEN, handle, Receipts::Many);
            client.write_exactly(b"GET / HTTP/1.1\r\n");
            client.write_exactly(b"\r\n");
            assert_eq!(said(all_completions(&mut kernel)), ["GET / HTTP/1.1\r\n", "\r\n"]);
        }
    }

    #[test]
    fn bytes_keep_their_order_under_all_cuts() {
        let bytes: Vec<u8> = (0..5000u32).map(|number| b'a' + (number % 23) as u8).collect();
        for seed in 0..300 {
            let mut config = SimConfig::default();
            config.faults.peer_reset = 0.0;
            let (mut kernel, world, client, handle) = accepted(seed, config);
            let mut random = Random::new(seed);
            kernel.receive(TOKEN, handle, Receipts::Many);
            let (mut rest, mut received, mut ended) = (&bytes[..], Vec::new(), false);
            while !ended {
                let (now, later) = rest.split_at(random.index(rest.len() + 1));
                rest = later;
                client.write(now);
                if rest.is_empty() {
                    client.finish();
                }
                for completion in completions(&mut kernel) {
                    let Completion::Received { result, more, .. } = completion else { continue };
                    if let Ok(Some(lease)) = &result {
                        received.extend_from_slice(lease);
                    }
                    ended |= matches!(result, Ok(None));
                    if !more && !ended {
                        kernel.receive(TOKEN, handle, Receipts::Many);
                    }
                }
            }
            assert_eq!(received, bytes, "seed {seed}");
            assert_eq!(
                (world.in_flight(), world.lent() + kernel.pool().vacant()),
                (0, 64),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn without_a_lent_buffer_fails_at_once_even_without_bytes() {
        let config = SimConfig { buffers: 4, buffers_lent: 1, ..without_faults() };
        let (mut kernel, world, client, handle) = accepted(1, config);
        kernel.receive(TOKEN, handle, Receipts::Many);
        client.write_exactly(b"held");
        let held = completions(&mut kernel);
        client.write_exactly(b"next");
        let next = completions(&mut kernel);
        assert_eq!(world.lent(), 0, "each enter lends one, and one was filled");
        client.write_exactly(b"more");
        let others: Vec<_> = std::iter::from_fn(|| kernel.pool().take()).collect();
        assert_eq!(said(completions(&mut kernel)), ["NOBUFS."]);
        kernel.receive(TOKEN, handle, Receipts::Many);
        assert_eq!(
            (said(completions(&mut kernel)), client.unread()),
            (vec!["NOBUFS.".to_owned()], 4)
        );
        drop((held, next, others));
        kernel.receive(TOKEN, handle, Receipts::Many);
        assert_eq!(said(completions(&mut kernel)), ["more"]);
        assert!(world.injected(Fault::NoBuffers) == 2);
    }

    #[test]
    fn a_large_one_comes_once_with_all_that_has_come_or_finds_no_buffer() {
        let config = SimConfig { large_buffers: 1, large_bytes: 3000, ..without_faults() };
        let (mut kernel, _, client, handle) = accepted(1, config);
        client.write(&[b'a'; 5000]);
        kernel.receive(TOKEN, handle, Receipts::Large);
        let held = completions(&mut kernel);
        assert_eq!(kernel.receivable(Size::Large), 0);
        kernel.receive(TOKEN, handle, Receipts::Large);
        assert_eq!(said(completions(&mut kernel)), ["NOBUFS."]);
        assert_eq!(said(held), ["a".repeat(3000) + "."]);
        kernel.receive(TOKEN, handle, Receipts::Large);
        assert_eq!(said(completions(&mut kernel)), ["a".repeat(2000) + "."]);
    }

    #[test]
    fn starving_doubles_what_is_lent_up_to_the_pool() {
        let mut kernel =
            Simulation::new(1, SimConfig { buffers: 6, buffers_lent: 2, ..without_faults() });
        let mut lent = Vec::new();
        for _ in 0..3 {
            kernel.enter(Wait::No).expect("a simulation always enters");
            lent.push(kernel.world().lent());
            kernel.starved(Size::Usual);
        }
        assert_eq!(lent, [2, 4, 6]);
    }

    #[test]
    fn stopping_ends_it_later_and_bytes_may_come_before() {
        let (mut bytes_came, mut none_came) = (false, false);
        for seed in 0..50 {
            let (mut kernel, _, client, handle) = accepted(seed, without_faults());
            kernel.receive(TOKEN, handle, Receipts::Many);
            client.write(b"late");
            kernel.stop_receive(TOKEN);
            match &said(all_completions(&mut kernel))[..] {
                [bytes, end] if bytes == "late" && end == "CANCELED." => bytes_came = true,
                [end] if end == "CANCELED." => none_came = true,
                other => panic!("{other:?}"),
            }
            kernel.stop_receive(TOKEN);
            assert!(all_completions(&mut kernel).is_empty(), "nothing is left to stop");
        }
        assert!(bytes_came && none_came);
    }

    #[test]
    fn a_reset_comes_behind_the_bytes_and_is_told_once() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        kernel.receive(TOKEN, handle, Receipts::Many);
        client.write(b"last words");
        client.reset();
        assert_eq!(said(completions(&mut kernel)), ["last words", "CONNRESET."]);
        kernel.receive(TOKEN, handle, Receipts::Many);
        assert_eq!(said(completions(&mut kernel)), ["end."]);
        kernel.send(TOKEN, handle, batch(b"too late"));
        assert_eq!(sent(&mut kernel), Some(Err("PIPE".to_owned())));
    }
}

mod sending {
    use super::*;

    #[test]
    fn waits_for_room_and_goes_on_when_the_client_reads() {
        let (mut kernel, world, client, handle) = accepted(1, without_faults());
        client.set_window(4);
        kernel.send(TOKEN, handle, batch(b"0123456789"));
        assert_eq!(sent(&mut kernel), None);
        assert!(world.is_quiet() && world.in_flight() == 1);
        assert_eq!(client.read_slowly(1), b"0");
        assert_eq!((sent(&mut kernel), client.arrived()), (None, 4));
        assert_eq!(client.read(), b"1234");
        assert_eq!(sent(&mut kernel), None);
        client.set_window(100);
        assert_eq!(sent(&mut kernel), Some(Ok(10)));
        assert_eq!(client.read(), b"56789");
        assert_eq!(world.injected(Fault::WindowFull), 3);
    }

    #[test]
    fn a_partial_send_says_how_much_left_and_gives_the_batch_back() {
        let (mut kernel, world, client, handle) =
            accepted(1, with(|faults| faults.partial_send = 1.0));
        kernel.send(TOKEN, handle, batch(b"0123456789"));
        let Some(Completion::Sent { result: Ok(count), batch, .. }) =
            completions(&mut kernel).pop()
        else {
            panic!()
        };
        assert!((1..10).contains(&count) && batch.len() == 10);
        assert_eq!(client.read(), b"0123456789"[..count]);
        assert_eq!(world.injected(Fault::PartialSend), 1);
    }

    #[test]
    fn a_stopped_send_says_what_had_left() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        client.set_window(0);
        kernel.send(TOKEN, handle, batch(b"0123"));
        assert_eq!(sent(&mut kernel), None);
        kernel.stop_send(TOKEN);
        assert_eq!(sent(&mut kernel), Some(Err("CANCELED".to_owned())));
        client.set_window(3);
        kernel.send(TOKEN, handle, batch(b"0123"));
        assert_eq!(sent(&mut kernel), None);
        kernel.stop_send(TOKEN);
        assert_eq!(sent(&mut kernel), Some(Ok(3)));
    }

    #[test]
    fn to_a_peer_that_reset_it_fails_once_with_reset_and_then_with_pipe() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        client.set_window(0);
        kernel.send(TOKEN, handle, batch(b"waiting"));
        assert_eq!(sent(&mut kernel), None);
        client.reset();
        assert_eq!(sent(&mut kernel), Some(Err("CONNRESET".to_owned())));
        kernel.send(TOKEN, handle, batch(b"again"));
        assert_eq!(sent(&mut kernel), Some(Err("PIPE".to_owned())));
    }

    #[test]
    fn to_a_client_that_has_closed_it_succeeds_once() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        client.close();
        for expected in [Ok(5), Err("PIPE".to_owned())] {
            kernel.send(TOKEN, handle, batch(b"hello"));
            assert_eq!(sent(&mut kernel), Some(expected));
        }
    }

    #[test]
    fn after_our_end_it_fails_with_pipe() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        kernel.shutdown(TOKEN, handle);
        assert!(matches!(
            completions(&mut kernel)[..],
            [Completion::ShutDown { connection: TOKEN }]
        ));
        assert_eq!(client.ending(), Some(Ending::Finished));
        kernel.send(TOKEN, handle, batch(b"too late"));
        assert_eq!(sent(&mut kernel), Some(Err("PIPE".to_owned())));
    }
}

mod ending {
    use super::*;

    fn closed(kernel: &mut Simulation, handle: Handle, manner: Manner) {
        kernel.close(TOKEN, handle, manner);
        assert!(matches!(completions(kernel)[..], [Completion::Closed { connection: TOKEN }]));
    }

    #[test]
    fn a_close_finishes_and_what_was_sent_can_be_read() {
        let (mut kernel, world, client, handle) = accepted(1, without_faults());
        kernel.send(TOKEN, handle, batch(b"bye"));
        assert_eq!(sent(&mut kernel), Some(Ok(3)));
        closed(&mut kernel, handle, Manner::Close);
        assert_eq!((client.ending(), client.read()), (Some(Ending::Finished), b"bye".to_vec()));
        assert_eq!((world.open_handles(), world.in_flight(), client.is_open()), (0, 0, false));
    }

    #[test]
    fn a_close_with_unread_bytes_resets_and_loses_what_the_client_has_not_read() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        kernel.send(TOKEN, handle, batch(b"413"));
        assert_eq!(sent(&mut kernel), Some(Ok(3)));
        client.write(b"unread");
        closed(&mut kernel, handle, Manner::Close);
        assert_eq!((client.ending(), client.read()), (Some(Ending::Reset), Vec::new()));
    }

    #[test]
    fn a_write_to_a_closed_server_is_answered_with_a_reset() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        closed(&mut kernel, handle, Manner::Close);
        client.write(b"anybody there?");
        assert_eq!(client.ending(), Some(Ending::Reset));
    }

    #[test]
    fn a_reset_can_be_told_from_a_close() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        closed(&mut kernel, handle, Manner::Reset);
        assert_eq!(client.ending(), Some(Ending::Reset));
    }

    #[test]
    fn a_closed_handle_is_given_to_the_next_connection() {
        let (mut kernel, world, _, handle) = accepted(1, without_faults());
        closed(&mut kernel, handle, Manner::Close);
        world.connect(LISTENER);
        let accepted = completions(&mut kernel);
        assert!(
            matches!(accepted[..], [Completion::Accepted { result: Ok(again), .. }] if again == handle)
        );
    }

    #[test]
    fn an_installed_descriptor_keeps_the_connection_open() {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        kernel.install(TOKEN, handle);
        assert!(matches!(
            completions(&mut kernel)[..],
            [Completion::Installed { result: Ok(_), .. }]
        ));
        closed(&mut kernel, handle, Manner::Close);
        assert_eq!(client.ending(), None);
    }

    #[test]
    fn an_install_fails_as_configured() {
        let errno = Errno(libc::EMFILE);
        let (mut kernel, _, _, handle) =
            accepted(1, SimConfig { install_errno: Some(errno), ..without_faults() });
        kernel.install(TOKEN, handle);
        assert!(
            matches!(completions(&mut kernel)[..], [Completion::Installed { result: Err(e), .. }] if e == errno)
        );
    }
}

mod accepting_and_time {
    use super::*;

    #[test]
    fn a_full_table_ends_the_accept_and_drops_the_client() {
        let config = SimConfig { descriptors_max: 1, ..without_faults() };
        let (mut kernel, world, first, _) = accepted(1, config);
        let second = world.connect(LISTENER);
        let said = completions(&mut kernel);
        assert!(
            matches!(said[..], [Completion::Accepted { result: Err(errno), more: false, .. }] if errno.is_exhaustion())
        );
        assert_eq!((first.ending(), second.ending()), (None, Some(Ending::Finished)));
        assert_eq!(world.injected(Fault::TableFull), 1);
    }

    #[test]
    fn an_accept_error_loses_no_client() {
        for seed in 0..100 {
            let (_, world, client, _) = accepted(seed, with(|faults| faults.accept_errors = 0.7));
            assert!(client.is_open() && world.open_handles() == 1);
        }
    }

    #[test]
    fn a_tick_comes_at_the_earliest_time_asked_for_and_once() {
        let mut kernel = Simulation::new(1, without_faults());
        kernel.wake_at(50);
        kernel.wake_at(20);
        kernel.wake_at(NEVER);
        assert_eq!(kernel.world().next_event_at(), Some(20));
        assert!(matches!(completions(&mut kernel)[..], [Completion::Tick]));
        assert_eq!((kernel.now(), kernel.world().next_event_at()), (20, None));
        assert!(completions(&mut kernel).is_empty(), "nothing would ever happen by itself");
        assert_eq!(kernel.now(), 20);
    }

    #[test]
    fn time_passes_only_when_told_or_when_nothing_else_can_happen() {
        let mut kernel = Simulation::new(1, without_faults());
        let world = kernel.world();
        kernel.wake_at(1500);
        world.control();
        assert!(matches!(completions(&mut kernel)[..], [Completion::Control]));
        assert_eq!((kernel.now(), kernel.unix_seconds()), (0, 784_111_777));
        kernel.enter(Wait::No).expect("a simulation always enters");
        assert!(world.is_quiet() && !kernel.has_work());
        world.advance(1500);
        assert!(kernel.has_work() && kernel.complete().is_none());
        assert!(matches!(completions(&mut kernel)[..], [Completion::Tick]));
        assert_eq!(kernel.unix_seconds(), 784_111_778);
    }
}

mod broken_rules {
    use super::*;

    fn open() -> (Simulation, Handle) {
        let (mut kernel, _, client, handle) = accepted(1, without_faults());
        client.set_window(0);
        kernel.receive(TOKEN, handle, Receipts::Many);
        kernel.send(TOKEN, handle, batch(b"waits"));
        (kernel, handle)
    }

    #[test]
    #[should_panic(expected = "a send of Token { slot: 0, generation: 1 } is in flight already")]
    fn two_sends() {
        let (mut kernel, handle) = open();
        kernel.send(TOKEN, handle, batch(b"overtakes"));
    }

    #[test]
    #[should_panic(expected = "a receive of Token { slot: 0, generation: 1 } is in flight already")]
    fn two_receives() {
        let (mut kernel, handle) = open();
        kernel.receive(TOKEN, handle, Receipts::Many);
    }

    #[test]
    #[should_panic(expected = "is accepting already")]
    fn two_accepts() {
        let (mut kernel, _) = open();
        kernel.accept(LISTENER, Accepts::Many);
    }

    #[test]
    #[should_panic(expected = "while a send is in flight")]
    fn a_shutdown_during_a_send() {
        let (mut kernel, handle) = open();
        kernel.shutdown(TOKEN, handle);
    }

    #[test]
    #[should_panic(expected = "while a receive is in flight")]
    fn a_close_during_a_receive() {
        let (mut kernel, handle) = open();
        kernel.close(TOKEN, handle, Manner::Close);
    }

    #[test]
    #[should_panic(expected = "while a send is in flight")]
    fn a_close_before_the_last_completion_was_taken() {
        let (mut kernel, _, _, handle) = accepted(1, without_faults());
        kernel.send(TOKEN, handle, batch(b"done, but who knows?"));
        kernel.enter(Wait::No).expect("a simulation always enters");
        kernel.close(TOKEN, handle, Manner::Close);
    }

    #[test]
    #[should_panic(expected = "which it has closed")]
    fn a_closed_handle() {
        let (mut kernel, _, _, handle) = accepted(1, without_faults());
        kernel.close(TOKEN, handle, Manner::Close);
        kernel.receive(TOKEN, handle, Receipts::Many);
    }

    #[test]
    #[should_panic(expected = "which is not open")]
    fn a_handle_that_was_closed_long_ago() {
        let (mut kernel, _, _, handle) = accepted(1, without_faults());
        kernel.close(TOKEN, handle, Manner::Close);
        completions(&mut kernel);
        kernel.receive(TOKEN, handle, Receipts::Many);
    }

    #[test]
    #[should_panic(expected = "which belongs to Token { slot: 0, generation: 1 }")]
    fn the_handle_of_another() {
        let (mut kernel, handle) = open();
        kernel.receive(Token { slot: 1, generation: 1 }, handle, Receipts::Many);
    }
}
