//! The text itself: lines of OpenMetrics 1.0, or of the text format of Prometheus (0.0.4), which
//! differ in the names of counters and at the end.

use std::fmt::{self, Write};

use super::Format;
use crate::counters::{NANOS_PER_SECOND, Nanos};

/// What a family of samples is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    /// Facts in the labels.
    Info,
}

/// A page of metrics in the making.
pub(super) struct Text {
    out: String,
    format: Format,
}

impl Text {
    pub(super) fn new(format: Format) -> Text {
        Text { out: String::with_capacity(32 * 1024), format }
    }

    /// Begins a family. `name` is without `_total` or `_info`; its last word is its unit if it has one.
    pub(super) fn family<'t>(
        &'t mut self,
        name: &'t str,
        help: &str,
        kind: FamilyKind,
    ) -> Family<'t> {
        let suffix = match kind {
            FamilyKind::Counter => "_total",
            FamilyKind::Info => "_info",
            FamilyKind::Gauge | FamilyKind::Histogram => "",
        };
        let word = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Info if self.format == Format::OpenMetrics => "info",
            FamilyKind::Info | FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
        };
        // OpenMetrics names the family, Prometheus the sample.
        let shown = if self.format == Format::OpenMetrics { "" } else { suffix };
        let sentence = self.sentence(help);
        self.line(format_args!("# HELP {name}{shown} {sentence}"));
        self.line(format_args!("# TYPE {name}{shown} {word}"));
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        Family { text: self, name, suffix }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.line(format_args!("# EOF"));
        }
        self.out
    }

    /// A sentence as HELP may have it: its quotation marks are escaped in OpenMetrics only.
    fn sentence(&self, help: &str) -> String {
        let escaped = escaped(help);
        match self.format {
            Format::OpenMetrics => escaped,
            Format::Prometheus => escaped.replace("\\\"", "\""),
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.out.write_fmt(line);
        self.out.push('\n');
    }
}

/// A family whose samples follow.
pub(super) struct Family<'t> {
    text: &'t mut Text,
    name: &'t str,
    suffix: &'static str,
}

impl Family<'_> {
    /// A sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.line(self.suffix, labels, value);
    }

    /// The samples of a histogram: bounds in nanoseconds, how many are in each bucket (one more than
    /// there are bounds), and their sum.
    pub(super) fn histogram(
        &mut self,
        bounds: impl Iterator<Item = Nanos>,
        counts: &[u64],
        sum: Nanos,
    ) {
        let mut below = 0;
        for (bound, count) in bounds.map(seconds).chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            self.line("_bucket", &[("le", &bound)], below);
        }
        self.line("_sum", &[], seconds(sum));
        self.line("_count", &[], below);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let (name, mut set) = (self.name, String::new());
        for (label, value) in labels {
            let separator = if set.is_empty() { '{' } else { ',' };
            let _ = write!(set, "{separator}{label}=\"{}\"", escaped(value));
        }
        let end = if set.is_empty() { "" } else { "}" };
        self.text.line(format_args!("{name}{suffix}{set}{end} {value}"));
    }
}

/// Nanoseconds in seconds, to the last digit. OpenMetrics wants powers of ten in one form, and a
/// microsecond in this one.
fn seconds(nanos: Nanos) -> String {
    if nanos == 1_000 {
        return "1e-06".to_owned();
    }
    let (whole, fraction) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    let text = format!("{whole}.{fraction:09}");
    match text.trim_end_matches('0') {
        whole if whole.ends_with('.') => format!("{whole}0"),
        fraction => fraction.to_owned(),
    }
}

/// Text as it may stand in a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut text = Text::new(format);
        text.family("a_bytes", "Bytes.", FamilyKind::Counter).sample(&[], 7);
        text.family("b", "A \"b\".", FamilyKind::Gauge).sample(&[("c", "\\\n"), ("d", "")], 0);
        text.family("e", "Facts.", FamilyKind::Info).sample(&[("f", "1")], 1);
        let mut times = text.family("g_seconds", "Times.", FamilyKind::Histogram);
        times.histogram([1_000, 2_000].into_iter(), &[1, 0, 2], 3_000_000_500);
        text.finish()
    }

    #[test]
    fn openmetrics_names_families_and_ends() {
        let expected = r##"# HELP a_bytes Bytes.
# TYPE a_bytes counter
# UNIT a_bytes bytes
a_bytes_total 7
# HELP b A \"b\".
# TYPE b gauge
b{c="\\\n",d=""} 0
# HELP e Facts.
# TYPE e info
e_info{f="1"} 1
# HELP g_seconds Times.
# TYPE g_seconds histogram
# UNIT g_seconds seconds
g_seconds_bucket{le="1e-06"} 1
g_seconds_bucket{le="0.000002"} 1
g_seconds_bucket{le="+Inf"} 3
g_seconds_sum 3.0000005
g_seconds_count 3
# EOF
"##;
        assert_eq!(page(Format::OpenMetrics), expected);
    }

    #[test]
    fn prometheus_names_samples() {
        let page = page(Format::Prometheus);
        assert!(page.starts_with("# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\na_"));
        assert!(page.contains("# TYPE e_info gauge\ne_info{f=\"1\"} 1\n"));
        assert!(!page.contains("# UNIT") && !page.contains("# EOF"));
    }

    #[test]
    fn times_are_told_in_seconds_to_the_last_digit() {
        for (nanos, text) in
            [(0, "0.0"), (1, "0.000000001"), (1_000, "1e-06"), (64_000, "0.000064")]
        {
            assert_eq!(seconds(nanos), text);
        }
        assert_eq!(
            (seconds(NANOS_PER_SECOND), seconds(67_108_864_000)),
            ("1.0".into(), "67.108864".into())
        );
    }
}
