"""From figures to places on an axis, and to the words that stand there.

A scale is a function of a figure; `ticks` are the figures that are written below it. Linear scales begin at zero, so that
lengths are in the proportion of the figures.
"""

import math


class Linear:
    def __init__(self, values, start, end):
        # Where what a server does by itself is subtracted, a figure may be a little below zero.
        self.low, self.high = min(0, *values), max(0, *values)
        if self.low == self.high:
            self.high = 1
        self.start, self.end = start, end

    def __call__(self, value):
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count):
        step = round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Logarithmic:
    """For what spreads over orders of magnitude. There is no zero: what is below one stands at its lower end."""

    def __init__(self, values, start, end):
        values = [max(value, 1) for value in values]
        self.low, self.high = rounded_down(min(values)), rounded_up(max(values))
        if self.low == self.high:
            self.high = rounded_up(self.low * 1.5)
        self.start, self.end = start, end

    def __call__(self, value):
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count):
        """Decades; with 2 and 5 between them where there is room, every second one where there is not."""
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        decades = [10**exponent for exponent in exponents]
        fine = [decade * part for decade in decades for part in (1, 2, 5)]
        for ticks in (fine, decades, decades[::2], decades[::3]):
            shown = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(shown) <= count + 1:
                return shown
        return [self.low, self.high]


def spreads(values):
    """Whether the figures ask for a logarithmic scale."""
    values = [max(value, 1) for value in values]
    return max(values) / min(values) > 30


def round_step(step):
    """The next of 1, 2, 5, 10, 20 and so on."""
    decade = 10 ** math.floor(math.log10(step))
    return next(decade * part for part in (1, 2, 5, 10) if decade * part >= step * 0.999)


def rounded_down(value):
    decade = 10 ** math.floor(math.log10(value))
    return max(decade * part for part in (1, 2, 5) if decade * part <= value)


def rounded_up(value):
    decade = 10 ** math.floor(math.log10(value))
    return min(decade * part for part in (1, 2, 5, 10) if decade * part >= value)


def plain(value):
    """Three digits, as many as a figure of these deserves; whole numbers whole."""
    if isinstance(value, int) or value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    # 0.0940 claims a digit that 0.094 never had.
    while decimals > 2 and text.endswith("0"):
        text, decimals = text[:-1], decimals - 1
    return text


def large(value):
    """Thousands and millions: 184 k, 1.23 M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        # 999,700 is a million in three digits.
        if abs(value) >= size * 0.9995:
            return f"{plain(value / size)} {letter}"
    return plain(value)


def duration(us):
    """Of microseconds."""
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if abs(us) >= size * 0.9995:
            return f"{plain(us / size)} {unit}"
    return f"{plain(us)} µs"


def ratio(value):
    return f"{value:.2f}×" if value < 99.995 else f"{value:,.0f}×"


def short(words):
    """A tick's words: 200 and not 200.00."""
    number, _, unit = words.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".rstrip()
