"""One small chart: bars, or percentiles on an axis. Each is 400 units wide, so that a phone shows one and a desk three
side by side without a letter becoming too small.

Every row says its name and its figures in words; no colour has to be told from another to read it.
"""

from dataclasses import dataclass

from . import marks, scales

WIDTH = 400
TITLE_SIZE, NAME_SIZE, TICK_SIZE = 14, 12, 11
BOLD_SHARE = 1.1
TITLE_HEIGHT, SUBTITLE_HEIGHT, AXIS_HEIGHT = 28, 16, 40
NAME_WIDTH_MAX, BAR_WIDTH_MIN = 200, 90
BAR_STEP, BAR_HEIGHT = 24, 13
TRACK_STEP, TRACK_MIDDLE, TRACK_MARGIN, COLUMN_WIDTH_MIN = 36, 25, 8, 62
# Of a column that is a server: its name may have any length.
COLUMN_NAME_WIDTH_MAX = 80
# Between servers that have several rows each.
GROUP_GAP = 9


@dataclass(frozen=True)
class Panel:
    """A finished one: marks in a box of `WIDTH` by `height`; `label` for who hears it instead of seeing it."""

    height: float
    body: str
    label: str


@dataclass(frozen=True)
class Axis:
    """What is written below: the words of a figure, and what is counted. `values` is what it has to span."""

    title: str
    words: object
    values: list
    is_logarithmic: bool = False

    def scale(self, start, end):
        kind = scales.Logarithmic if self.is_logarithmic else scales.Linear
        return kind(self.values, start, end)


@dataclass(frozen=True)
class Bar:
    name: str
    server: object
    value: float
    note: str = ""
    low: float = None
    high: float = None
    # A second figure of the same unit, as a mark on the bar.
    mark: float = None

    def figures(self):
        return [value for value in (self.value, self.low, self.high, self.mark) if value is not None]

    def words(self, axis):
        if self.value is None:
            return ["not measured"]
        return [axis.words(self.value), self.note] if self.note else [axis.words(self.value)]


@dataclass(frozen=True)
class Spread:
    """Some figures of one row on one axis; `slots` are whose each is, `about` stands behind the name."""

    name: str
    server: object
    values: list
    slots: list
    words: list
    about: str = ""
    is_joined: bool = True


def frame(rows, axis):
    """Where bars may begin and end, for names before them and figures behind them."""
    names = max(width(row.name, row.server) for row in rows)
    figures = max(marks.text_width(" ".join(row.words(axis)), NAME_SIZE) for row in rows)
    end = WIDTH - figures - 10
    return min(NAME_WIDTH_MAX, names, end - BAR_WIDTH_MIN) + 10, end


def width(name, server):
    is_bold = server is not None and server.is_ours
    return marks.text_width(name, NAME_SIZE) * (BOLD_SHARE if is_bold else 1)


def bars(title, subtitle, rows, axis, frame, reference=None):
    """A bar a row, from zero, its figure at its end; bars of one `frame` are of one scale."""
    scale = axis.scale(*frame)
    top = head_height(subtitle)
    tops, bottom = places(rows, top, BAR_STEP)
    parts = [*head(title, subtitle), *grid(scale, axis, [(top, bottom)]), *axis_words(scale, axis, bottom)]
    if reference is not None:
        parts.append(marks.line(scale(reference), top, scale(reference), bottom, "reference"))
    parts += [bar(row, scale, top + BAR_STEP / 2, axis, frame[0] - 8) for row, top in zip(rows, tops)]
    told = "; ".join(f"{row.name} {' '.join(row.words(axis))}" for row in rows)
    return Panel(bottom + AXIS_HEIGHT, "".join(parts), f"{title}, {axis.title}: {told}")


def bar(row, scale, middle, axis, room):
    parts = [name_text(row, middle + 4, room)]
    if row.value is not None:
        left, right = sorted((scale(0), scale(row.value)))
        parts.append(marks.rectangle(left, middle - BAR_HEIGHT / 2, right - left, BAR_HEIGHT, "bar"))
    if row.low is not None and row.high is not None:
        parts += whisker(scale(row.low), scale(row.high), middle + BAR_HEIGHT / 2 + 3)
    if row.mark is not None:
        parts.append(marks.line(scale(row.mark), middle - 9, scale(row.mark), middle + 9, "second"))
    reach = max([scale(0), *map(scale, row.figures())])
    parts.append(value_text(reach + 6, middle + 4, row.words(axis)))
    return marks.group(parts, f"slot-{row.server.slot}", told_of_bar(row, axis))


def told_of_bar(row, axis):
    within = ""
    if row.low is not None and row.high is not None:
        within = f" ({axis.words(row.low)} to {axis.words(row.high)})"
    return f"{row.name}: {' '.join(row.words(axis))}{within}, {axis.title}"


def whisker(low, high, y):
    """Below the bar, so that it is seen on any colour."""
    ends = [marks.line(x, y - 2, x, y + 2, "whisker") for x in (low, high)]
    return [marks.line(low, y, high, y, "whisker"), *ends]


def value_text(x, y, words):
    first, *rest = words
    note = "".join(marks.element("tspan", marks.escaped(f" {word}"), class_="note", dx=3) for word in rest)
    return marks.element("text", marks.escaped(first) + note, x=float(x), y=float(y), class_="value")


def spreads(title, subtitle, columns, rows, axis, reference=None):
    """A track a row: a shape for each column's figure, and the figures as words above the track."""
    scale = axis.scale(TRACK_MARGIN, WIDTH - TRACK_MARGIN)
    top = head_height(subtitle) + 14
    tops, bottom = places(rows, top, TRACK_STEP)
    # Words stand between the tracks: no line goes through them.
    rules = [(top + TRACK_MIDDLE - 8, top + TRACK_MIDDLE + 8) for top in tops]
    columns = [marks.shortened(name, TICK_SIZE, COLUMN_NAME_WIDTH_MAX) for name in columns]
    ends = column_ends(columns, rows)
    parts = [*head(title, subtitle), *column_heads(columns, ends, top - 6), *grid(scale, axis, rules)]
    if reference is not None:
        parts += [marks.line(scale(reference), start, scale(reference), end, "reference") for start, end in rules]
    parts += [track(row, columns, ends, scale, top) for row, top in zip(rows, tops)]
    parts += axis_words(scale, axis, bottom)
    said = (f"{row.name} {', '.join(row.words)}" for row in rows)
    label = f"{title}, {', '.join(columns)}, {axis.title}: {'; '.join(said)}"
    return Panel(bottom + AXIS_HEIGHT, "".join(parts), label)


def column_ends(columns, rows):
    """The right end of each."""
    words = [marks.text_width(word, NAME_SIZE) + 12 for row in rows for word in row.words]
    names = [marks.text_width(name, TICK_SIZE) + 22 for name in columns]
    widest = max(COLUMN_WIDTH_MIN, *words, *names)
    return [WIDTH - widest * number for number in range(len(columns) - 1, -1, -1)]


def column_heads(columns, ends, y):
    """The legend of the shapes: each stands before the name of its column."""
    parts = []
    for number, (name, x) in enumerate(zip(columns, ends)):
        parts.append(marks.text(x, y, name, "head", "end"))
        parts.append(marks.shape(number, x - marks.text_width(name, TICK_SIZE) - 8, y - 4, 4.5))
    return [marks.group(parts, "legend")]


def track(row, columns, ends, scale, top):
    room = ends[0] - marks.text_width(row.words[0], NAME_SIZE) - 8
    parts = [name_text(row, top + 14, room)]
    x = width(row.name, row.server) + 8
    # Fewer than a few letters say nothing.
    if row.about and room - x > 40:
        parts.append(marks.text(x, top + 14, marks.shortened(row.about, TICK_SIZE, room - x), "head"))
    parts += [marks.text(x, top + 14, word, "value", "end") for word, x in zip(row.words, ends)]
    parts.append(shapes(row, scale, top + TRACK_MIDDLE))
    told = ", ".join(f"{column} {word}" for column, word in zip(columns, row.words))
    return marks.group(parts, "row", f"{row.name}: {told}")


def shapes(row, scale, middle):
    places = [None if value is None else scale(value) for value in row.values]
    there = [place for place in places if place is not None]
    parts = [marks.line(scale.start, middle, scale.end, middle, "track")]
    if row.is_joined and there:
        reach = marks.line(min(there), middle, max(there), middle, "reach")
        parts.append(marks.group([reach], f"slot-{row.slots[0]}"))
    for number, (place, slot) in enumerate(zip(places, row.slots)):
        if place is not None:
            parts.append(marks.group([marks.shape(number, place, middle)], f"slot-{slot}"))
    return "".join(parts)


def places(rows, top, step):
    """The top of each row, and the bottom of all; a server's rows stand together if it has several."""
    has_groups = any(before.server and before.server is after.server for before, after in zip(rows, rows[1:]))
    tops = []
    for before, row in zip([None, *rows], rows):
        top += GROUP_GAP if has_groups and before and before.server is not row.server else 0
        tops.append(top)
        top += step
    return tops, top


def name_text(row, y, room):
    is_ours = row.server is not None and row.server.is_ours
    name = row.name if width(row.name, row.server) <= room else marks.shortened(row.name, NAME_SIZE * BOLD_SHARE, room)
    return marks.text(0, y, name, "name ours" if is_ours else "name")


def head_height(subtitle):
    return TITLE_HEIGHT + (SUBTITLE_HEIGHT if subtitle else 0)


def head(title, subtitle):
    parts = [marks.text(0, 15, marks.shortened(title, TITLE_SIZE * BOLD_SHARE, WIDTH), "title")]
    if subtitle:
        parts.append(marks.text(0, 32, marks.shortened(subtitle, TICK_SIZE, WIDTH), "subtitle"))
    return parts


def grid(scale, axis, rules):
    """Upright lines at the ticks, from and to where `rules` say."""
    parts = []
    for tick in ticks(scale, axis):
        kind = "zero" if tick == 0 else "grid"
        parts += [marks.line(scale(tick), start, scale(tick), end, kind) for start, end in rules]
    return parts


def axis_words(scale, axis, bottom):
    """The figures below the grid, and what they count."""
    parts = [marks.text(0, bottom + 31, axis.title, "axis")]
    for tick in ticks(scale, axis):
        words = tick_words(tick, axis)
        half = marks.text_width(words, TICK_SIZE) / 2
        # The first and the last would else be cut at the panel's edge.
        x = min(max(scale(tick), half), WIDTH - half)
        parts.append(marks.text(x, bottom + 14, words, "tick", "middle"))
    return parts


def ticks(scale, axis):
    """As many as have room for their words."""
    widest = max(marks.text_width(tick_words(value, axis), TICK_SIZE) for value in (scale.low, scale.high))
    return scale.ticks(max(1, int((scale.end - scale.start) / (widest + 18))))


def tick_words(value, axis):
    return scales.short(axis.words(float(value)))
