"""One figure as one SVG file, for a README: on its own paper, with its question, its caption and where it comes from."""

from . import marks, theme
from .panels import WIDTH

MARGIN, GAP_X, GAP_Y = 24, 40, 26
TITLE_HEIGHT, LINE_HEIGHT = 50, 17
READING_SIZE, NOTE_SIZE = 12, 11
SPACE = "http://www.w3.org/2000/svg"


def whole(question, figure, columns):
    """`columns` panels side by side."""
    columns = min(columns, len(figure.panels))
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X
    reading, top = lines([question.reading], READING_SIZE, "reading", TITLE_HEIGHT + 6, width)
    placed, bottom = grid(figure.panels, columns, top + 10)
    notes, bottom = lines([figure.caption, origin(figure.record)], NOTE_SIZE, "axis", bottom, width)
    height = bottom + MARGIN / 2
    parts = [
        marks.element("title", marks.escaped(question.title)),
        marks.element("style", theme.chart_style()),
        marks.element("rect", x=0.5, y=0.5, width=width - 1, height=float(height - 1), rx=8, class_="paper"),
        marks.text(MARGIN, 36, question.title, "heading"),
        *reading,
        *placed,
        *notes,
    ]
    sized = {"viewBox": f"0 0 {width} {height:g}", "width": width, "height": float(height)}
    return marks.element("svg", "\n".join(parts), xmlns=SPACE, role="img", **sized) + "\n"


def grid(panels, columns, top):
    """The panels in their places, row by row, and where the last row ends."""
    placed = []
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        for number, panel in enumerate(row):
            place = f"translate({MARGIN + number * (WIDTH + GAP_X)} {top:g})"
            placed.append(marks.element("g", panel.body, transform=place))
        top += max(panel.height for panel in row) + GAP_Y
    return placed, top


def origin(record):
    facts = [record.machine, f"Linux {record.kernel}", record.compiler, f"commit {record.commit}", record.date]
    return ", ".join(filter(None, facts))


def lines(texts, size, class_, y, width):
    """Each text from a line of its own on, and where the last line ends."""
    broken = [line for text in texts for line in wrapped(text, size, width - 2 * MARGIN)]
    placed = [marks.text(MARGIN, y + LINE_HEIGHT * number, line, class_) for number, line in enumerate(broken)]
    return placed, y + LINE_HEIGHT * len(broken)


def wrapped(text, size, width):
    """SVG does not break lines by itself."""
    broken = [""]
    for word in text.split():
        longer = f"{broken[-1]} {word}".strip()
        if broken[-1] and marks.text_width(longer, size) > width:
            broken.append(word)
        else:
            broken[-1] = longer
    return broken
