//! Every family of metrics: what of the counters it shows, summed over the cores, and how it is
//! called. `tuning/README.md` has them in a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::text::{FamilyKind, Text};
use super::{Format, LIMIT_HITS, Phase};
use crate::config::TlsVersion;
use crate::counters::{
    AlertBy, Counters, Described, HandshakeKind, Histogram, Kind, Nanos, UpgradeResult,
};
use crate::tls::{Acceptor, Expiry, Staple};

/// What is also shown of each core, with its number as a label: few, for there may be many cores.
const BY_CORE: [&str; 12] = [
    "connections_open",
    "requests",
    "upgrades_open",
    "bytes_received",
    "bytes_sent",
    "buffers_held",
    "buffers_low",
    "receives_starved",
    "ring_enters",
    "ring_completions",
    "ring_overflows",
    "sleeps",
];

/// Results of offers that name no registered protocol, and their counters: these have no token.
const WITHOUT_TOKEN: [(&str, &str); 5] = [
    ("unknown", "upgrades_unknown"),
    ("malformed", "upgrades_malformed"),
    ("too_long", "upgrades_too_long"),
    ("no_connection_option", "upgrades_no_connection_option"),
    ("http10", "upgrades_http10"),
];

/// When what is shown in handshakes ends.
#[derive(Default)]
pub(super) struct Ends {
    certificates: Vec<Expiry>,
    staples: Vec<Staple>,
}

impl Ends {
    pub(super) fn of(acceptors: &[Arc<Acceptor>]) -> Ends {
        Ends {
            certificates: acceptors.iter().flat_map(|acceptor| acceptor.expiries()).collect(),
            staples: acceptors.iter().flat_map(|acceptor| acceptor.staples()).collect(),
        }
    }
}

/// All of them as text.
pub(super) fn all(cores: Vec<&Counters>, phase: Phase, ends: &Ends, format: Format) -> String {
    let (mut text, sums) = (Text::new(format), super::sums(&cores));
    state(&mut text, cores.len(), phase);
    requests(&mut text, &cores);
    upgrades(&mut text, &cores, &sums);
    tls(&mut text, &cores);
    certificates(&mut text, ends);
    limit_hits(&mut text, &sums);
    times(&mut text, &cores);
    for counter in sums.iter().filter(|counter| !is_shown_by_label(counter.name)) {
        let name = shown("upring", counter.name);
        text.family(&name, counter.help, kind(counter.kind)).sample(&[], counter.value);
    }
    by_core(&mut text, &cores);
    text.finish()
}

fn value(sums: &[Described], name: &str) -> u64 {
    sums.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
}

fn kind(kind: Kind) -> FamilyKind {
    match kind {
        Kind::Counter => FamilyKind::Counter,
        Kind::Gauge | Kind::Least => FamilyKind::Gauge,
    }
}

/// The name of a counter's family. What Prometheus counts in comes last: `bytes_sent` are
/// `sent_bytes`.
fn shown(prefix: &str, name: &str) -> String {
    match name.strip_prefix("bytes_") {
        Some(what) => format!("{prefix}_{what}_bytes"),
        None => format!("{prefix}_{name}"),
    }
}

/// Whether a counter is the sum of a family with labels.
fn is_shown_by_label(name: &str) -> bool {
    matches!(name, "requests" | "tls_handshakes") || name.starts_with("upgrades_")
}

fn state(text: &mut Text, cores: usize, phase: Phase) {
    text.family("upring_build", "The version that runs.", FamilyKind::Info)
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("upring_workers", "Workers, each with a core's counters.", FamilyKind::Gauge)
        .sample(&[], cores);
    text.family("upring_ready", "Whether every core serves.", FamilyKind::Gauge)
        .sample(&[], u8::from(phase == Phase::Ready));
    text.family("upring_draining", "Whether the server is stopping.", FamilyKind::Gauge)
        .sample(&[], u8::from(phase == Phase::Draining));
}

fn requests(text: &mut Text, cores: &[&Counters]) {
    let mut sums = BTreeMap::new();
    for (status, count) in cores.iter().flat_map(|core| core.statuses.each()) {
        *sums.entry(status).or_insert(0) += count;
    }
    let help =
        "Requests answered, those refused for a fault included, by the status of the answer.";
    let mut family = text.family("upring_requests", help, FamilyKind::Counter);
    for (status, count) in sums {
        family.sample(&[("status", &status.to_string())], count);
    }
}

/// What all cores have of one protocol.
#[derive(Default)]
struct OfToken {
    results: [u64; UpgradeResult::ALL.len()],
    open: u64,
    deciding: u64,
}

impl OfToken {
    fn is_unused(&self) -> bool {
        self.open == 0 && self.deciding == 0 && self.results.iter().all(|count| *count == 0)
    }
}

fn upgrades(text: &mut Text, cores: &[&Counters], sums: &[Described]) {
    let mut tokens: BTreeMap<&str, OfToken> = BTreeMap::new();
    for (name, counted) in cores.iter().flat_map(|core| core.upgrades.each()) {
        let token = tokens.entry(name).or_default();
        for (sum, result) in token.results.iter_mut().zip(UpgradeResult::ALL) {
            *sum += counted.count(result);
        }
        token.open = token.open.wrapping_add(counted.open.value());
        token.deciding = token.deciding.wrapping_add(counted.deciding.value());
    }
    // Most servers have no more protocols than have a place of their own.
    tokens.retain(|name, token| *name != "other" || !token.is_unused());
    let help = "Offers of an upgrade, and CONNECTs, by protocol and by what became of them. Those \
                that name no protocol registered there have no token.";
    let mut family = text.family("upring_upgrades", help, FamilyKind::Counter);
    for (name, token) in &tokens {
        for (count, result) in token.results.iter().zip(UpgradeResult::ALL) {
            family.sample(&[("token", name), ("result", result.name())], count);
        }
    }
    for (result, counter) in WITHOUT_TOKEN {
        family.sample(&[("token", ""), ("result", result)], value(sums, counter));
    }
    let mut family =
        text.family("upring_upgrades_open", "Switched connections open now.", FamilyKind::Gauge);
    for (name, token) in &tokens {
        family.sample(&[("token", name)], token.open);
    }
    let mut family =
        text.family("upring_upgrades_deciding", "Decisions not yet made.", FamilyKind::Gauge);
    for (name, token) in &tokens {
        family.sample(&[("token", name)], token.deciding);
    }
}

fn tls(text: &mut Text, cores: &[&Counters]) {
    let help = "TLS handshakes that are over, and were right, by the version spoken; the kind is full, or \
                resumed by a ticket.";
    let mut family = text.family("upring_tls_handshakes", help, FamilyKind::Counter);
    for version in TlsVersion::ALL {
        for kind in HandshakeKind::ALL {
            let count: u64 = cores.iter().map(|core| core.tls.handshakes(version, kind)).sum();
            family.sample(&[("version", version.name()), ("kind", kind.name())], count);
        }
    }
    let mut alerts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (name, by, count) in cores.iter().flat_map(|core| core.tls.alerts()) {
        *alerts.entry((name, by.name())).or_default() += count;
    }
    for by in AlertBy::ALL {
        // A rate wants a zero to begin from.
        alerts.entry(("other", by.name())).or_default();
    }
    let help = "Alerts that ended a TLS connection, in the handshake or behind it, by their name \
                and by who sent them.";
    let mut family = text.family("upring_tls_alerts", help, FamilyKind::Counter);
    for ((name, by), count) in alerts {
        family.sample(&[("alert", name), ("by", by)], count);
    }
}

fn certificates(text: &mut Text, ends: &Ends) {
    let certificates = ends.certificates.iter().map(|one| (&*one.name, one.not_after));
    let help = "When a certificate ends, in seconds since 1970, by the first name it is for.";
    first_ends(text, "upring_tls_certificate_not_after_seconds", help, certificates);
    let staples = ends.staples.iter();
    let staples = staples.filter_map(|staple| Some((&*staple.name, staple.next_update?)));
    let help = "When the OCSP response beside a certificate ends, its nextUpdate, in seconds since \
                1970, by the first name of the certificate.";
    first_ends(text, "upring_tls_staple_next_update_seconds", help, staples);
}

/// Nothing, where there is none. Of several for the same name the first to end is shown.
fn first_ends<'n>(
    text: &mut Text,
    family: &str,
    help: &str,
    each: impl Iterator<Item = (&'n str, i64)>,
) {
    let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, end) in each {
        let first = ends.entry(name).or_insert(end);
        *first = (*first).min(end);
    }
    if ends.is_empty() {
        return;
    }
    let mut family = text.family(family, help, FamilyKind::Gauge);
    for (name, end) in ends {
        family.sample(&[("name", name)], end);
    }
}

fn limit_hits(text: &mut Text, sums: &[Described]) {
    let help = "How often something has reached a limit, by the name of the limit.";
    let mut family = text.family("upring_limit_hits", help, FamilyKind::Counter);
    for (limit, counter) in LIMIT_HITS {
        family.sample(&[("limit", limit)], value(sums, counter));
    }
}

fn times(text: &mut Text, cores: &[&Counters]) {
    let help = "Time of requests in the server: from the beginning of the turn in which the head was \
                read whole to the end of that in which the answer was written. Sending is not in it.";
    let all = cores.iter().map(|core| &core.request_times);
    histogram(text, "upring_request_seconds", help, all);
    let help = "Time that decisions about an upgrade took, those that did not come in time included; \
                those made at once took none.";
    let all = cores.iter().map(|core| &core.decision_times);
    histogram(text, "upring_upgrade_decision_seconds", help, all);
    let help = "Time that switched connections were open, of those that are over.";
    let all = cores.iter().map(|core| &core.switched_times);
    histogram(text, "upring_switched_connection_seconds", help, all);
    let help = "Time of TLS handshakes that were right: from the connection to the last message of its \
                client, by milliseconds.";
    let all = cores.iter().map(|core| &core.tls.handshake_times);
    histogram(text, "upring_tls_handshake_seconds", help, all);
}

fn histogram<'c, const FIRST: Nanos>(
    text: &mut Text,
    name: &str,
    help: &str,
    cores: impl Iterator<Item = &'c Histogram<FIRST>>,
) {
    let bounds = Histogram::<FIRST>::bounds();
    let (mut counts, mut sum) = (vec![0; bounds.size_hint().0 + 1], 0_u64);
    for core in cores {
        for (total, count) in counts.iter_mut().zip(core.counts()) {
            *total += count;
        }
        sum = sum.wrapping_add(core.sum());
    }
    text.family(name, help, FamilyKind::Histogram).histogram(bounds, &counts, sum);
}

fn by_core(text: &mut Text, cores: &[&Counters]) {
    let cores: Vec<Vec<Described>> =
        cores.iter().map(|core| core.each_described().collect()).collect();
    let Some(first) = cores.first() else { return };
    for counter in first.iter().filter(|counter| BY_CORE.contains(&counter.name)) {
        let name = shown("upring_core", counter.name);
        let mut family = text.family(&name, counter.help, kind(counter.kind));
        for (index, core) in cores.iter().enumerate() {
            family.sample(&[("core", &index.to_string())], value(core, counter.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::TokenSlot;

    #[test]
    fn cores_are_added_up_and_shown_by_themselves() {
        let cores = [Counters::default(), Counters::default()];
        for (core, low) in cores.iter().zip([7, 3]) {
            core.statuses.raise(200);
            core.bytes_sent.add(100);
            core.buffers_low.set(low);
            core.request_times.note(1_500, 2);
            let slot = core.upgrades.slot(if low == 7 { "echo" } else { "chat" });
            core.upgrades.raise(slot, UpgradeResult::Switched);
        }
        // As when one core closes what another has opened.
        cores[0].connections_open.lower();
        cores[1].connections_open.add(2);
        let text = all(cores.iter().collect(), Phase::Ready, &Ends::default(), Format::OpenMetrics);
        for line in [
            "upring_workers 2",
            "upring_ready 1",
            "upring_requests_total{status=\"200\"} 2",
            "upring_sent_bytes_total 200",
            "upring_buffers_low 3",
            "upring_connections_open 1",
            "upring_core_buffers_low{core=\"0\"} 7",
            "upring_core_sent_bytes_total{core=\"1\"} 100",
            "upring_request_seconds_bucket{le=\"1e-06\"} 0",
            "upring_request_seconds_bucket{le=\"0.000002\"} 4",
            "upring_request_seconds_sum 0.000006",
            "upring_upgrades_total{token=\"chat\",result=\"switched\"} 1",
            "upring_upgrades_total{token=\"echo\",result=\"switched\"} 1",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
        }
        assert!(!text.contains("token=\"other\""), "nothing had to go there");
        cores[0].upgrades.raise(TokenSlot::default(), UpgradeResult::Declined);
        let text = all(cores.iter().collect(), Phase::Ready, &Ends::default(), Format::OpenMetrics);
        assert!(text.contains("{token=\"other\",result=\"declined\"} 1"));
    }

    #[test]
    fn of_certificates_for_the_same_name_the_first_to_end_is_shown() {
        let expiry = |name: &str, not_after| Expiry { name: name.into(), not_after };
        let expiries = [expiry("b", 5), expiry("a", 7), expiry("b", 3), expiry("", -1)];
        let of = |ends: &Ends| all(Vec::new(), Phase::Ready, ends, Format::Prometheus);
        let ends = Ends { certificates: expiries.into(), staples: Vec::new() };
        let (shown, none) = (of(&ends), of(&Ends::default()));
        let name = "upring_tls_certificate_not_after_seconds";
        let expected =
            format!("{name}{{name=\"\"}} -1\n{name}{{name=\"a\"}} 7\n{name}{{name=\"b\"}} 3\n");
        assert!(shown.contains(&expected), "{shown}");
        assert!(!none.contains(name), "{none}");
    }

    #[test]
    fn of_ocsp_responses_for_the_same_name_the_first_to_end_is_shown_and_none_without_an_end() {
        let staple =
            |name: &str, next_update| Staple { name: name.into(), next_update, warning: None };
        let staples = vec![staple("b", Some(5)), staple("a", None), staple("b", Some(3))];
        let of = |staples| {
            let ends = Ends { certificates: Vec::new(), staples };
            all(Vec::new(), Phase::Ready, &ends, Format::Prometheus)
        };
        let shown = of(staples);
        let name = "upring_tls_staple_next_update_seconds";
        assert!(shown.contains(&format!(" gauge\n{name}{{name=\"b\"}} 3\n")), "{shown}");
        assert_eq!(shown.matches(&format!("\n{name}{{")).count(), 1, "{shown}");
        assert!(!of(vec![staple("a", None)]).contains(name));
    }

    #[test]
    fn every_counter_that_is_named_is_one() {
        let counters = Counters::default();
        let named = BY_CORE.into_iter();
        let named = named.chain(WITHOUT_TOKEN.map(|(_, counter)| counter));
        for name in named.chain(LIMIT_HITS.map(|(_, counter)| counter)) {
            assert!(counters.each().any(|(known, _)| known == name), "{name}");
        }
    }
}
