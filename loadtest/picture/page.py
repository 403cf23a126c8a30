"""The whole as one HTML file: a section a question, then the records with every figure.

It is well-formed XML besides, needs no script, and refers to nothing but its own parts.
"""

import json
import re

from . import theme
from .marks import element, escaped
from .panels import WIDTH
from .questions import QUESTIONS, figures

TITLE = "What upring costs"
LEAD = (
    "Load tests of upring, a thread-per-core io_uring server for HTTP/1.1 and Upgrade, beside servers that do the same work in "
    "other ways. Server and generator run on one machine, over loopback, and every byte of every answer is checked."
)
READING = (
    "Upring’s rows are orange, and stand first. Each chart is of one record, that is, of one run on one machine; what stands "
    "in different records was not measured at the same time. Below each chart are its exact figures, and at the end of the page "
    "every record with its machine, compiler, commit and command."
)


def whole(records, servers):
    sections = [(q, [(chart, figures(chart, records, servers)) for chart in q.charts]) for q in QUESTIONS]
    sections = [(q, charts) for q, charts in sections if any(found for _, found in charts)]
    shown = {figure.record.name for _, charts in sections for _, found in charts for figure in found}
    plain = [record for record in records if record.rows and record.name not in shown]
    body = [
        head(sections, servers, plain),
        *(section(question, charts) for question, charts in sections),
        other_tables(plain),
        element("section", element("h2", "The records") + "".join(map(article, records)), id="records"),
    ]
    return document(element("main", "\n".join(body)))


def document(body):
    sized = '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    parts = ['<meta charset="utf-8"/>', sized, element("title", TITLE), element("style", theme.page_style())]
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{"".join(parts)}</head>\n<body>\n{body}\n</body>\n</html>\n'


def head(sections, servers, plain):
    links = [(question.anchor, question.title) for question, _ in sections]
    links += [("others", "Other tables")] if plain else []
    items = "".join(element("li", link(*of)) for of in [*links, ("records", "The records")])
    who = "".join(element("li", swatch(server)) for server in servers)
    return "\n".join(
        [
            element("h1", TITLE),
            element("p", LEAD, class_="lead"),
            element("p", READING),
            element("ul", who, class_="servers"),
            element("nav", element("ul", items)),
        ]
    )


def link(anchor, words):
    return element("a", escaped(words), href=f"#{anchor}")


def swatch(server):
    colour = element("span", class_=f"swatch slot-{server.slot}")
    name = element("b" if server.is_ours else "span", escaped(server.label))
    about = element("span", f" – {escaped(server.about)}", class_="about") if server.about else ""
    return colour + element("span", name + about)


def section(question, charts):
    asked = element("div", element("h2", question.title) + element("p", question.reading))
    drawn = [(chart, found) for chart, several in charts for found in several]
    figures_ = "\n".join(figure(*of) for of in drawn)
    # One small chart stands beside its question where there is room.
    is_beside = len(drawn) == 1 and len(drawn[0][1].panels) == 1
    return element("section", asked + figures_, id=question.anchor, class_="beside" if is_beside else "below")


def figure(chart, found):
    drawn = "\n".join(map(svg, found.panels))
    parts = [
        element("h3", chart.title),
        element("div", origin(found.record), class_="from"),
        element("div", drawn, class_="panels"),
        element("figcaption", escaped(found.caption)),
        exact("The exact figures", found.columns, found.rows),
    ]
    return element("figure", "\n".join(parts), class_=f"chart-{chart.name}")


def svg(panel):
    box = f"0 0 {WIDTH} {panel.height:g}"
    return element("svg", panel.body, viewBox=box, width=WIDTH, height=panel.height, role="img", aria_label=panel.label)


def heading(record):
    return f"{record.topic}, {record.date}" if record.date else record.topic


def origin(record):
    facts = [record.machine, f"Linux {record.kernel}", record.compiler, f"commit {record.commit}"]
    return link(anchor(record), heading(record)) + escaped("".join(f" · {fact}" for fact in facts))


def anchor(record):
    return "record-" + re.sub(r"\W+", "-", record.name)


def exact(words, columns, rows):
    inner = element("div", table(columns, rows), class_="scrolled")
    return element("details", element("summary", words) + inner)


def table(columns, rows):
    words = {column for column in columns if any(isinstance(row.values.get(column), str) for row in rows)}
    head_ = "".join(cell("th", column, column in words) for column in columns)
    lines = ["".join(cell("td", written(row.values.get(column)), column in words) for column in columns) for row in rows]
    body = "\n".join(element("tr", line) for line in lines)
    return element("table", element("thead", element("tr", head_)) + element("tbody", body))


def cell(kind, words, is_word):
    return element(kind, escaped(words), class_="word") if is_word else element(kind, escaped(words))


def written(value):
    """As the record has it: a figure is not rounded here."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def other_tables(records):
    """What no chart is known for is not dropped."""
    if not records:
        return ""
    shown = [
        element("h3", escaped(record.topic))
        + element("div", origin(record), class_="from")
        + element("div", table(record.columns, record.rows), class_="scrolled")
        for record in records
    ]
    return element("section", element("h2", "Other tables") + "\n".join(shown), id="others")


def article(record):
    facts = {"machine": record.machine, "kernel": record.kernel, "compiler": record.compiler, "commit": record.commit}
    listed = "".join(element("dt", name) + element("dd", escaped(fact)) for name, fact in facts.items())
    parts = [
        element("h3", escaped(heading(record))),
        element("dl", listed),
        element("pre", escaped(command(record))),
        failed(record),
        exact(f"All {len(record.rows)} rows", record.columns, record.rows),
    ]
    return element("article", "\n".join(parts), id=anchor(record))


def failed(record):
    """A server that has no row was not forgotten."""
    told = "".join(element("li", escaped(failure)) for failure in record.failures)
    return element("p", "What failed:") + element("ul", told) if told else ""


def command(record):
    """The command with each option on a line of its own; a word with spaces is quoted, as in a shell."""
    lines = []
    for word in record.command:
        quoted = "'" + word.replace("'", "'\\''") + "'" if not word or set(word) & set(" '\"$&;|<>()*") else word
        if word.startswith("--") or not lines:
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return " \\\n  ".join(lines)
