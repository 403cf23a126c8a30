"""The sections of the page: what is asked, how to read the answer, and the charts that give it."""

from dataclasses import dataclass

from . import scales
from .figures import PERCENTILES, BarChart, GlanceChart, SpreadChart, SwitchChart


@dataclass(frozen=True)
class Question:
    title: str
    reading: str
    charts: list

    @property
    def anchor(self):
        return self.charts[0].name


LOAD = ("profile",)
TAIL = ("share",)
# What upring holds itself to.
RATIO_WANTED = 2


QUESTIONS = [
    Question(
        "At a glance",
        "Server CPU time a request or message for each profile, as a multiple of what the cheapest other server of that "
        "profile takes, which is named behind it. Left of the dashed line upring is the cheapest of all, right of it that "
        "other one is.",
        [
            GlanceChart(
                name="glance",
                title="Cost beside the cheapest other server",
                needs=("cpu_us", *LOAD),
                lacks=TAIL,
                axis="CPU time, in multiples of the cheapest other server’s",
                caption="Quotients of `ratio`, the median of each round’s, or of the medians where a record has none.",
                ratio="ratio",
                is_single=True,
            )
        ],
    ),
    Question(
        "How many requests a second?",
        "Requests or messages a second that one server core answered, every connection sending its next as soon as it had "
        "its answer. Longer bars are better. The generator has one core, too, and may be the one that is "
        "at its end; the time of the next section is the server’s alone.",
        [
            BarChart(
                name="rate",
                title="Throughput",
                needs=("rate", *LOAD),
                lacks=TAIL,
                axis="requests or messages a second → more is better",
                caption="Medians of the rounds.",
                words=scales.large,
            )
        ],
    ),
    Question(
        "How much processor time does a request take?",
        "Microseconds of the server’s core for one request or message, the kernel’s work on its behalf included. Shorter bars "
        "are better. It is a time: compare it within one record only.",
        [
            BarChart(
                name="cpu",
                title="CPU time by profile",
                needs=("cpu_us", *LOAD),
                lacks=TAIL,
                axis="CPU µs a request or message ← less is better",
                caption="Medians of interleaved rounds, with the lowest and the highest round as a thin line, and the "
                "median of each round’s ratio to the first server of the table.",
                low="cpu_us_lowest",
                high="cpu_us_highest",
                ratio="ratio",
            ),
            BarChart(
                name="cpu-by-connections",
                title="CPU time by connections",
                needs=("us_per_request",),
                axis="CPU µs a request or message ← less is better",
                caption="Medians of interleaved rounds, with the lowest and the highest round as a thin line, and the "
                "median of each round’s ratio to the first server of the table.",
                low="us_lowest",
                high="us_highest",
                ratio="ratio",
            ),
        ],
    ),
    Question(
        "What does a switch cost beside a plain request?",
        "One panel a server. A plain request goes over a connection that is there already; a switch is a whole life: connect, "
        "Upgrade request, 101, the first byte echoed, close. Churn is the fair neighbour: connect, one plain "
        "request, close.",
        [
            SwitchChart(
                name="switch",
                title="A plain request, churn, a switch",
                needs=("cpu_us", *LOAD),
                lacks=TAIL,
                axis="CPU µs each ← less is better",
                caption="Medians of one record, and multiples of the first bar.",
                is_shared=True,
            )
        ],
    ),
    Question(
        "How long does an answer take?",
        "Half of the answers came within p50, all but one in a hundred within p99, all but one in a thousand within p99.9. "
        "Further left is better, and a short line is a steady server. These are latencies at full load, in "
        "which a request waits for those of all other connections.",
        [
            SpreadChart(
                name="latency",
                title="Latency at full load",
                needs=("p50_us", *LOAD),
                lacks=TAIL,
                axis="latency ← less is better",
                caption="Medians of the rounds.",
                columns=PERCENTILES,
            )
        ],
    ),
    Question(
        "Does it stay quick at 50 and 80 % load?",
        "Requests come at a fixed rate, 50 and 80 % of what the same server reached at most, whether or not earlier ones are "
        "answered, and a latency counts from when its request was due. The nearer p99 is to p50, the more alike are the answers.",
        [
            BarChart(
                name="tail",
                title="p99 over p50",
                needs=("p99_over_p50", *TAIL),
                axis="p99 in multiples of p50 ← less is better",
                caption=f"The dashed line, {RATIO_WANTED}, is the most that upring allows itself at 80 %.",
                label="share",
                is_shared=True,
                reference=RATIO_WANTED,
            ),
            SpreadChart(
                name="tail-latency",
                title="Percentiles at that load",
                needs=("p50_us", *TAIL),
                axis="latency ← less is better",
                caption="Each server has a rate of its own: its part of its own maximum, as in the table.",
                columns=PERCENTILES,
                label="share",
                also=("rate", "achieved", "cpu_us"),
            ),
        ],
    ),
    Question(
        "How much memory does an idle connection take?",
        "Growth of the server’s anonymous memory for each upgraded connection that is open and silent. Shorter bars are better. "
        "What the kernel keeps for a socket is not in it.",
        [
            BarChart(
                name="memory",
                title="Memory of an idle connection",
                needs=("slope",),
                axis="bytes a connection ← less is better",
                caption="The bar is the growth over the second half of the connections, the upright mark the mean since the "
                "warm-up.",
                mark="mean",
            ),
            BarChart(
                name="resident",
                title="Memory under load",
                needs=("rss_mib", *LOAD),
                lacks=TAIL,
                axis="resident MiB ← less is better",
                caption="Resident memory of the server’s processes under load.",
                is_shared=True,
            ),
        ],
    ),
    Question(
        "How many system calls does a request take?",
        "Calls into the kernel, divided by requests or messages. Shorter bars are better. It is a count: the same on "
        "every machine, but for who wins races.",
        [
            BarChart(
                name="calls",
                title="System calls by profile",
                needs=("calls", *LOAD),
                lacks=TAIL,
                axis="system calls a request or message ← less is better",
                caption="Counted in a turn of its own, not while anything was timed.",
            ),
            BarChart(
                name="calls-by-burst",
                title="System calls by burst",
                needs=("calls_per_request", "burst"),
                axis="system calls a request ← less is better",
                caption="A burst is wholly in the server’s sockets before the server runs: asleep when it comes, or still busy "
                "with the one before.",
            ),
        ],
    ),
    Question(
        "What does an attack do to honest traffic?",
        "Latency of a thousand honest requests a second before, during and after an attack, counted from when each was "
        "due. An attack that is well borne leaves the three alike.",
        [
            SpreadChart(
                name="attack",
                title="Latency around attacks",
                needs=("p50_us", "attack", "when"),
                axis="latency ← less is better",
                caption="The table says how much the attacker did meanwhile: `acts`.",
                columns={"p50_us": "p50", "p99_us": "p99", "max_us": "most"},
                label="when",
                also=("requests", "failed", "acts", "server_cpu", "rss_mb"),
            )
        ],
    ),
]


def chart_names():
    return [chart.name for question in QUESTIONS for chart in question.charts]


def asked(name):
    """The question that a chart is part of, and the chart."""
    return next((question, chart) for question in QUESTIONS for chart in question.charts if chart.name == name)


def figures(chart, records, servers):
    found = [chart.figure(record, servers) for record in records]
    found = [figure for figure in found if figure]
    return found[:1] if chart.is_single else found
