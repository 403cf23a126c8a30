"""Pieces of SVG as text, and how wide a text is.

Colours are left to style sheets: a mark says whose it is by a class, and is drawn in that class's `color`.
"""

import re
from html import escape

# What XML has no way to hold at all.
UNHOLDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Shares of the size of the type, by DejaVu Sans, which is wider than most: what fits in it fits elsewhere.
NARROW, MIDDLE, WIDE = "iljtfrI.,:;'|!()[]/- ", "abcdeghknopqsuvxyz0123456789_", "mwMW@%—"
NARROW_SHARE, MIDDLE_SHARE, SHARE, WIDE_SHARE = 0.41, 0.64, 0.8, 1.0


SHARES = {
    **dict.fromkeys(NARROW, NARROW_SHARE),
    **dict.fromkeys(MIDDLE, MIDDLE_SHARE),
    **dict.fromkeys(WIDE, WIDE_SHARE),
}


def text_width(text, size):
    return size * sum(SHARES.get(letter, SHARE) for letter in text)


def shortened(text, size, width):
    """The text, its end left out if it has no room."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def escaped(text):
    return escape(UNHOLDABLE.sub("\ufffd", str(text)))


def element(name, content="", **attributes):
    """`class_` is `class`, `text_anchor` is `text-anchor`; numbers to a tenth of a pixel."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{attribute(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{content}</{name}>"


def attribute(value):
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escaped(value)


def text(x, y, words, class_, anchor="start"):
    return element("text", escaped(words), x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def group(parts, class_, title=""):
    """`title` is what a pointer that rests on it is told."""
    told = element("title", escaped(title)) if title else ""
    return element("g", told + "".join(parts), class_=class_)


def rectangle(x, y, width, height, class_):
    return element("rect", x=float(x), y=float(y), width=float(max(width, 0)), height=float(height), class_=class_)


def line(x1, y1, x2, y2, class_):
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def shape(number, x, y, radius=5.0):
    """One of three that are told apart without colour: a disc, a diamond, an upright bar."""
    if number == 0:
        return element("circle", cx=float(x), cy=float(y), r=radius * 0.9, class_="mark")
    if number == 1:
        way = f"M{x - radius:.1f} {y:.1f}L{x:.1f} {y - radius:.1f}L{x + radius:.1f} {y:.1f}L{x:.1f} {y + radius:.1f}Z"
        return element("path", d=way, class_="mark")
    return rectangle(x - radius * 0.4, y - radius * 1.2, radius * 0.8, radius * 2.4, "mark")
