"""Which panels the table of a record makes.

A chart is asked for the figure of a record, and has none of a record that lacks its columns. What distinguishes the panels
of a figure is whatever of `KEYS` the table has.
"""

from dataclasses import dataclass

from . import panels, scales

KEYS = ["profile", "share", "connections", "depth", "bytes", "burst", "pause_us", "attack"]
PERCENTILES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}


@dataclass(frozen=True)
class Figure:
    """`columns` and `rows` are those of the table below it."""

    record: object
    caption: str
    panels: list
    columns: list
    rows: list


@dataclass(frozen=True)
class Chart:
    """`needs` are columns that must be there, `lacks` those that make a table something else. A server has several rows in
    a panel if there is a `label`, the column that tells them apart. `also` are columns for the table alone;
    a single one is drawn of the first record that has it."""

    name: str
    title: str
    needs: tuple
    axis: str
    caption: str
    lacks: tuple = ()
    label: str = None
    also: tuple = ()
    is_single: bool = False

    def figure(self, record, servers):
        is_another = any(column in record.columns for column in self.lacks)
        if is_another or not record.has("target", *self.needs):
            return None
        rows = self.chosen(record.rows)
        made = self.panels(record, servers, rows) if rows else []
        if not made:
            return None
        columns = dict.fromkeys([*self.keys(), "target", self.label, *self.shown(), *self.also])
        return Figure(record, self.caption_of(rows), made, [column for column in columns if column in record.columns], rows)

    def chosen(self, rows):
        return rows

    def shown(self):
        return self.needs

    def caption_of(self, rows):
        return self.caption

    def keys(self):
        return [key for key in KEYS if key != self.label]

    def grouped(self, rows):
        """The rows of each panel, in the order of the table."""
        groups = {}
        for row in rows:
            groups.setdefault(tuple(row.text(key) for key in self.keys()), []).append(row)
        return list(groups.values())

    def heading(self, row):
        words = [in_words(key, row) for key in self.keys() if row.values.get(key) is not None]
        return ", ".join(words) or self.title

    def row_name(self, row, server):
        return f"{server.label}, {label_words(self.label, row)}" if self.label else server.label


@dataclass(frozen=True)
class BarChart(Chart):
    """A figure for each server. The first of `needs` is the one that is drawn."""

    words: object = scales.plain
    low: str = None
    high: str = None
    mark: str = None
    ratio: str = None
    is_shared: bool = False
    reference: float = None

    def shown(self):
        extra = [self.low, self.high, self.mark, self.ratio]
        return [*self.needs, *(column for column in extra if column)]

    def caption_of(self, rows):
        scale = "All panels have one scale, from zero." if self.is_shared else "Each panel has a scale of its own, from zero."
        return f"{self.caption} {scale}" if len(self.grouped(rows)) > 1 else self.caption

    def panels(self, record, servers, rows):
        groups = self.grouped(rows)
        bars = [[self.bar(row, servers.of(row)) for row in servers.sorted(group)] for group in groups]
        heads = [(self.heading(group[0]), subtitle(record, group[0])) for group in groups]
        return bar_panels(self, heads, bars)

    def bar(self, row, server):
        def optional(column):
            return row.figure(column) if column else None

        ratio = optional(self.ratio)
        return panels.Bar(
            name=self.row_name(row, server),
            server=server,
            value=row.figure(self.needs[0]),
            note="" if ratio is None else scales.ratio(ratio),
            low=optional(self.low),
            high=optional(self.high),
            mark=optional(self.mark),
        )


def bar_panels(chart, heads, bars):
    """A panel for each list of bars, on scales of their own or on one."""
    together = [bar for group in bars for bar in group]
    made = []
    for (title, subtitle_), group in zip(heads, bars):
        spanned = together if chart.is_shared else group
        reference = [] if chart.reference is None else [chart.reference]
        axis = panels.Axis(chart.axis, chart.words, [*reference, *(value for bar in spanned for value in bar.figures())])
        made.append(panels.bars(title, subtitle_, group, axis, panels.frame(spanned, axis), chart.reference))
    return made


@dataclass(frozen=True)
class SwitchChart(BarChart):
    """A panel a server: a plain request, one on a connection of its own, and a switch."""

    kinds = ("plaintext", "churn", "switch")

    def chosen(self, rows):
        rows = [row for row in rows if kind_of(row) in self.kinds and row.figure("cpu_us") is not None]
        found = {kind_of(row) for row in rows}
        return rows if "switch" in found and len(found) > 1 else []

    def panels(self, record, servers, rows):
        heads, bars = [], []
        for server in servers:
            own = [row for row in rows if row.text("target") == server.name]
            own.sort(key=lambda row: self.kinds.index(kind_of(row)))
            # Who switches nothing is not asked what that costs.
            if own and kind_of(own[-1]) == "switch":
                heads.append((server.label, server.about))
                bars.append(self.of_server(own, server))
        return bar_panels(self, heads, bars)

    def of_server(self, rows, server):
        plain = rows[0].figure("cpu_us")
        made = []
        for row in rows:
            value = row.figure("cpu_us")
            note = scales.ratio(value / plain) if plain and row is not rows[0] else ""
            made.append(panels.Bar(row.text("profile"), server, value, note))
        return made


@dataclass(frozen=True)
class SpreadChart(Chart):
    """Percentiles of each server, on one scale for all panels. The first of `needs` is one of the `columns`."""

    columns: dict = None

    def shown(self):
        return [*self.needs, *self.columns]

    def caption_of(self, rows):
        kind = "logarithmic" if self.axis_of(rows).is_logarithmic else "linear, from zero"
        return f"{self.caption} The scale is {kind}{', the same for all panels' if len(self.grouped(rows)) > 1 else ''}."

    def axis_of(self, rows):
        values = [value for row in rows for value in self.values(row) if value is not None]
        is_logarithmic = scales.spreads(values)
        title = f"{self.axis}, logarithmic scale" if is_logarithmic else self.axis
        return panels.Axis(title, scales.duration, values, is_logarithmic)

    def values(self, row):
        return [row.figure(column) for column in self.columns]

    def panels(self, record, servers, rows):
        axis = self.axis_of(rows)
        made = []
        for group in self.grouped(rows):
            spreads = [self.spread(row, servers.of(row), axis) for row in servers.sorted(group)]
            head = self.heading(group[0]), subtitle(record, group[0])
            made.append(panels.spreads(*head, list(self.columns.values()), spreads, axis))
        return made

    def spread(self, row, server, axis):
        values = self.values(row)
        words = ["–" if value is None else axis.words(value) for value in values]
        return panels.Spread(self.row_name(row, server), server, values, [server.slot] * len(values), words)


@dataclass(frozen=True)
class GlanceChart(Chart):
    """A track a profile: upring's figure in proportion to that of the cheapest other server. Both are taken from the column
    `ratio` if the table has it for all of them, so that the chart says what the table says."""

    ratio: str = None

    def shown(self):
        return [*self.needs, self.ratio]

    def panels(self, record, servers, rows):
        # There are three shapes.
        ours = [server for server in servers if server.is_ours and server.name in record.distinct("target")][:3]
        spreads = [self.spread(group, ours, servers) for group in self.grouped(rows)]
        spreads = [spread for spread in spreads if spread]
        if not spreads:
            return []
        values = [value for spread in spreads for value in spread.values if value is not None]
        axis = panels.Axis(self.axis, scales.plain, [1.1, *values])
        names = [server.name for server in ours]
        return [panels.spreads("the cheapest other server is 1", "", names, spreads, axis, reference=1)]

    def spread(self, rows, ours, servers):
        costs = self.costs(rows)
        peers = [server for server in servers if not server.is_ours and costs.get(server.name)]
        if not peers or all(costs.get(server.name) is None for server in ours):
            return None
        cheapest = min(peers, key=lambda server: costs[server.name])
        values = [quotient(costs.get(server.name), costs[cheapest.name]) for server in ours]
        return panels.Spread(
            name=self.heading(rows[0]),
            server=None,
            values=values,
            slots=[server.slot for server in ours],
            words=["–" if value is None else scales.ratio(value) for value in values],
            about=cheapest.label,
            is_joined=False,
        )

    def costs(self, rows):
        measured = [row for row in rows if row.figure("cpu_us") is not None]
        has_ratios = all(row.figure(self.ratio) for row in measured)
        column = self.ratio if has_ratios else "cpu_us"
        return {row.text("target"): row.figure(column) for row in measured}


def quotient(cost, of):
    return None if cost is None else cost / of


def kind_of(row):
    """`switch-late` is a switch."""
    return row.text("profile").split("-")[0]


def in_words(key, row):
    """What a key's figure says to a person."""
    if key in ("profile", "attack"):
        return row.text(key)
    value = row.figure(key)
    if key == "share":
        return f"{100 * value:g} %"
    if key == "connections":
        return f"{value:,} connection{'' if value == 1 else 's'}"
    if key == "depth":
        return "one at a time" if value == 1 else f"{value} at once"
    if key == "bytes":
        return f"{value // 1024} KiB" if value >= 1024 and value % 1024 == 0 else f"{value} bytes"
    if key == "burst":
        return "single requests" if value == 1 else f"bursts of {value}"
    return "server awake" if value == 0 else "server asleep"


def label_words(label, row):
    """`after, new in 3 ms` is `after`: the rest is a figure, and in the table."""
    return in_words(label, row) if label in KEYS else row.text(label).split(",")[0]


def subtitle(record, row):
    """How the generator was called for it, if the command tells."""
    return record.definitions("--profile").get(row.text("profile"), "")
