//! What `top` shows of two scrapes: text alone, so that a terminal and a file get the same.

use std::fmt::Write;

use upring::config::ListenAddress;

use super::sample::Sample;

/// Quantiles shown of the time of requests.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Two scrapes, and what happened between them.
struct Between<'s> {
    before: &'s Sample,
    after: &'s Sample,
    seconds: f64,
}

impl Between<'_> {
    /// How often a second. A server that was started anew in between has counted since then.
    fn rate(&self, before: f64, after: f64) -> f64 {
        let change = if after >= before { after - before } else { after };
        change / self.seconds
    }

    fn rate_of(&self, name: &str) -> f64 {
        self.rate(self.before.value(name), self.after.value(name))
    }

    /// Labels of a family, and how often a second.
    fn rates(&self, name: &str) -> Vec<(Vec<&str>, f64)> {
        let before = self.before.labelled(name);
        let of = |labels: &[&str]| {
            before.iter().find(|(known, _)| known == labels).map_or(0.0, |(_, value)| *value)
        };
        let rates = self.after.labelled(name).into_iter();
        rates.map(|(labels, after)| (labels.clone(), self.rate(of(&labels), after))).collect()
    }
}

/// What happened between two scrapes of the server at `address`.
pub(super) fn frame(address: &ListenAddress, before: &Sample, after: &Sample) -> String {
    let seconds = after.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let between = Between { before, after, seconds };
    let mut text = title(address, &between);
    requests(&between, &mut text);
    connections(&between, &mut text);
    upgrades(&between, &mut text);
    tls(&between, &mut text);
    ring(&between, &mut text);
    limits(&between, &mut text);
    cores(&between, &mut text);
    text
}

fn title(address: &ListenAddress, between: &Between<'_>) -> String {
    let after = between.after;
    let state = match (after.value("upring_ready") > 0.0, after.value("upring_draining") > 0.0) {
        (true, _) => "ready",
        (_, true) => "draining",
        _ => "starting",
    };
    let build = after.labelled("upring_build_info");
    let version = build.first().and_then(|(labels, _)| labels.first()).copied().unwrap_or("?");
    let workers = after.value("upring_workers");
    let seconds = between.seconds;
    format!("upring {version} at {address}: {state}, {workers} workers, over {seconds:.2} s\n\n")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

fn requests(between: &Between<'_>, text: &mut String) {
    let statuses = between.rates("upring_requests_total");
    let all: f64 = statuses.iter().map(|(_, rate)| rate).sum();
    let seen = statuses.iter().filter(|(_, rate)| *rate > 0.0);
    let parts = seen.map(|(labels, rate)| format!("  {} {}", labels.join(" "), count(*rate)));
    line(text, &format!("requests     {:>9}/s{}", count(all), parts.collect::<String>()));
    let times = between.rates("upring_request_seconds_bucket");
    let parts = QUANTILES.iter().map(|(name, share)| {
        let bound = quantile(&times, *share);
        format!("  {name} {}", bound.map_or("-".to_owned(), |bound| format!("<={}", time(bound))))
    });
    line(text, &format!("  in the server       {}", parts.collect::<String>()));
}

fn connections(between: &Between<'_>, text: &mut String) {
    let open = between.after.value("upring_connections_open");
    let accepted = count(between.rate_of("upring_connections_accepted_total"));
    let refused = count(between.rate_of("upring_connections_refused_total"));
    line(text, &format!("connections  {accepted:>9}/s  open {open}  refused {refused}/s"));
    let [received, sent] = ["upring_received_bytes_total", "upring_sent_bytes_total"]
        .map(|name| bytes(between.rate_of(name)));
    line(text, &format!("bytes        {received:>9}/s received  {sent}/s sent"));
}

fn upgrades(between: &Between<'_>, text: &mut String) {
    let (results, after) = (between.rates("upring_upgrades_total"), between.after);
    let all: f64 = results.iter().map(|(_, rate)| rate).sum();
    let open = after.sum("upring_upgrades_open");
    let deciding = after.sum("upring_upgrades_deciding");
    line(text, &format!("upgrades     {:>9}/s  open {open}  deciding {deciding}", count(all)));
    for (labels, rate) in results.iter().filter(|(_, rate)| *rate > 0.0) {
        let token = labels.first().copied().filter(|token| !token.is_empty()).unwrap_or("-");
        let result = labels.get(1).copied().unwrap_or_default();
        line(text, &format!("  {token:<20} {:>9}/s  {result}", count(*rate)));
    }
}

/// Nothing, where no TLS was spoken.
fn tls(between: &Between<'_>, text: &mut String) {
    let after = between.after;
    let (handshakes, alerts) = ("upring_tls_handshakes_total", "upring_tls_alerts_total");
    if after.sum(handshakes) + after.sum(alerts) + after.value("upring_tls_faults_total") == 0.0 {
        return;
    }
    let rates = between.rates(handshakes);
    let all: f64 = rates.iter().map(|(_, rate)| rate).sum();
    let [open, begun] =
        ["upring_tls_connections_open", "upring_tls_handshakes_open"].map(|name| after.value(name));
    let faults = count(between.rate_of("upring_tls_faults_total"));
    let parts = rates.iter().filter(|(_, rate)| *rate > 0.0);
    let parts = parts.map(|(labels, rate)| format!("  {} {}", labels.join(" "), count(*rate)));
    let all = count(all);
    line(
        text,
        &format!(
            "tls          {all:>9}/s handshakes  open {open}  under way {begun}  faults {faults}/s{}",
            parts.collect::<String>()
        ),
    );
    for (labels, rate) in between.rates(alerts).iter().filter(|(_, rate)| *rate > 0.0) {
        let (alert, by) = (labels.first().unwrap_or(&"?"), labels.get(1).unwrap_or(&"?"));
        line(text, &format!("  {alert:<20} {:>9}/s  by {by}", count(*rate)));
    }
}

fn ring(between: &Between<'_>, text: &mut String) {
    let enters = between.rate_of("upring_ring_enters_total");
    let completions = between.rate_of("upring_ring_completions_total");
    let each = if enters > 0.0 { completions / enters } else { 0.0 };
    let low = between.after.value("upring_buffers_low");
    let (enters, completions) = (count(enters), count(completions));
    line(
        text,
        &format!(
            "ring         {enters:>9}/s enters  {completions}/s completions ({each:.2} each)  buffers low {low}"
        ),
    );
    let rare = [
        ("overflows", "upring_ring_overflows_total"),
        ("without a buffer", "upring_receives_starved_total"),
        ("re-armed", "upring_rearmed_total"),
        ("short sends", "upring_sends_short_total"),
        ("bytes assembled", "upring_assembled_bytes_total"),
    ];
    let parts = rare.map(|(what, name)| format!("  {what} {}/s", count(between.rate_of(name))));
    line(text, &format!(" {}", parts.concat()));
}

fn limits(between: &Between<'_>, text: &mut String) {
    let totals = between.after.labelled("upring_limit_hits_total");
    let mut rates = between.rates("upring_limit_hits_total");
    rates.retain(|(labels, _)| totals.iter().any(|(known, total)| known == labels && *total > 0.0));
    if !rates.is_empty() {
        line(text, "limits that were reached");
    }
    for (labels, rate) in rates {
        let total = totals.iter().find(|(known, _)| *known == labels).map_or(0.0, |found| found.1);
        let limit = labels.concat();
        line(text, &format!("  {limit:<34} {:>9}/s  {total} in all", count(rate)));
    }
}

fn cores(between: &Between<'_>, text: &mut String) {
    line(text, "\ncore   open  requests/s  received/s      sent/s   enters/s  buffers low");
    let by_core = |name: &str| between.rates(&format!("upring_core_{name}_total"));
    let (requests, enters) = (by_core("requests"), by_core("ring_enters"));
    let (received, sent) = (by_core("received_bytes"), by_core("sent_bytes"));
    let low = between.after.labelled("upring_core_buffers_low");
    let of = |all: &[(Vec<&str>, f64)], core: &[&str]| {
        all.iter().find(|(labels, _)| labels == core).map_or(0.0, |(_, value)| *value)
    };
    let mut open = between.after.labelled("upring_core_connections_open");
    open.sort_by_key(|(core, _)| core.concat().parse().unwrap_or(u32::MAX));
    for (core, open) in &open {
        let (name, requests) = (core.concat(), count(of(&requests, core)));
        let (received, sent) = (bytes(of(&received, core)), bytes(of(&sent, core)));
        let (enters, low) = (count(of(&enters, core)), of(&low, core));
        line(
            text,
            &format!(
                "{name:>4} {open:>6}  {requests:>10}  {received:>10}  {sent:>10} {enters:>10}  {low:>11}"
            ),
        );
    }
}

/// The bound that so large a share of the times did not exceed: of buckets that hold what is in those
/// before them, too. None if there were no times.
fn quantile(buckets: &[(Vec<&str>, f64)], share: f64) -> Option<f64> {
    let mut bounds: Vec<(f64, f64)> = buckets
        .iter()
        .filter_map(|(labels, below)| Some((labels.first()?.parse().ok()?, *below)))
        .collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = bounds.last().map(|(_, below)| *below).filter(|all| *all > 0.0)?;
    bounds.iter().find(|(_, below)| *below >= all * share).map(|(bound, _)| *bound)
}

fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds.is_infinite() => "inf".to_owned(),
        _ if seconds < 0.001 => format!("{:.0}us", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        _ => format!("{seconds:.0}s"),
    }
}

/// A rate, in as many digits as say something.
fn count(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn bytes(rate: f64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.into_iter().find(|(_, size)| rate >= *size) {
        Some((unit, size)) => {
            let mut text = String::new();
            // Writing to memory does not fail.
            let _ = write!(text, "{:.1} {unit}", rate / size);
            text
        }
        None => format!("{rate:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const BEFORE: &str = "upring_build_info{version=\"9.9\"} 1\nupring_workers 2\nupring_ready 1\n\
        upring_requests_total{status=\"200\"} 100\nupring_ring_enters_total 10\n\
        upring_core_connections_open{core=\"0\"} 3\nupring_core_connections_open{core=\"10\"} 4\n\
        upring_core_connections_open{core=\"2\"} 5\n";

    fn admin() -> ListenAddress {
        "127.0.0.1:1".parse().expect("an address")
    }

    fn after(more: &str) -> String {
        let later = BEFORE.replace("} 100", "} 300").replace("enters_total 10", "enters_total 30");
        later + more
    }

    fn shown(more: &str) -> String {
        let now = Instant::now();
        let before = Sample::read(BEFORE, now);
        let after = Sample::read(&after(more), now + Duration::from_secs(2));
        frame(&admin(), &before, &after)
    }

    #[test]
    fn a_frame_shows_rates_by_the_second() {
        let text = shown(
            "upring_requests_total{status=\"404\"} 3\nupring_ring_completions_total 80\n\
             upring_upgrades_total{token=\"echo\",result=\"switched\"} 4\n\
             upring_limit_hits_total{limit=\"head_bytes_max\"} 2\n\
             upring_limit_hits_total{limit=\"leases_max\"} 0\n",
        );
        for part in [
            "upring 9.9 at 127.0.0.1:1: ready, 2 workers, over 2.00 s",
            "requests           102/s  200 100  404 1.5",
            "10/s enters  40/s completions (4.00 each)",
            "  echo                       2.0/s  switched",
            "  head_bytes_max                           1.0/s  2 in all",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("leases_max"), "{text}");
        let cores: Vec<&str> = text.lines().rev().take(3).map(|line| &line[..4]).collect();
        assert_eq!(cores, ["  10", "   2", "   0"]);
    }

    #[test]
    fn tls_has_a_line_where_it_is_spoken() {
        let text = shown(
            "upring_tls_handshakes_total{version=\"1.2\",kind=\"full\"} 0\n\
             upring_tls_handshakes_total{version=\"1.3\",kind=\"full\"} 4\n\
             upring_tls_handshakes_total{version=\"1.3\",kind=\"resumed\"} 40\n\
             upring_tls_alerts_total{alert=\"unknown_ca\",by=\"peer\"} 2\n\
             upring_tls_alerts_total{alert=\"other\",by=\"us\"} 0\n\
             upring_tls_faults_total 6\nupring_tls_connections_open 7\n",
        );
        let line = "tls                 22/s handshakes  open 7  under way 0  faults 3.0/s  \
                    1.3 full 2.0  1.3 resumed 20\n  unknown_ca                 1.0/s  by peer\nring";
        assert!(text.contains(line), "{text}");
        let silent = shown("upring_tls_handshakes_total{version=\"1.3\",kind=\"full\"} 0\n");
        assert!(!silent.contains("tls"), "{silent}");
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let shown = shown(
            "upring_request_seconds_bucket{le=\"1e-06\"} 0\n\
             upring_request_seconds_bucket{le=\"0.000002\"} 6\n\
             upring_request_seconds_bucket{le=\"0.065536\"} 99\n\
             upring_request_seconds_bucket{le=\"+Inf\"} 100\n",
        );
        assert!(shown.contains("p50 <=66ms  p90 <=66ms  p99 <=66ms  p99.9 <=inf"), "{shown}");
    }

    #[test]
    fn a_server_that_was_started_anew_has_no_negative_rate() {
        let now = Instant::now();
        let before = Sample::read(&after(""), now);
        let after = Sample::read(BEFORE, now + Duration::from_secs(1));
        let text = frame(&admin(), &before, &after);
        assert!(text.contains("requests           100/s  200 100\n"), "{text}");
    }
}
