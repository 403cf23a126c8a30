"""Record files: what was measured, on what, and by which command.

Reads and checks them, and knows nothing of charts. A `Fault` is the record's, and says where it is.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

# As the scripts write them; one that is not here comes behind these.
TOPICS = ["compare", "plaintext", "pipeline", "churn", "switch", "echo", "websocket", "cpu", "tail", "idle", "memory"]
TOPICS += ["syscalls", "faults", "tls", "flood"]

FILE_NAME = re.compile(r"(?P<date>\d{4}-\d\d-\d\d)-(?P<topic>.+)")
DEFINITION = re.compile(r"(?P<name>[^=@]+)[=@](?P<what>.+)", re.DOTALL)


class Fault(Exception):
    """A record that cannot be shown as it is."""


@dataclass(frozen=True)
class Row:
    """One row of a table; `place` is where a person finds it."""

    place: str
    values: dict

    def text(self, column):
        return str(self.values.get(column, ""))

    def figure(self, column):
        """A number, or None where none was measured."""
        value = self.values.get(column)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Fault(f"{self.place}: `{column}` is no number: {value!r}")
        return value


@dataclass(frozen=True)
class Record:
    name: str
    date: str
    topic: str
    machine: str
    kernel: str
    compiler: str
    commit: str
    command: list
    rows: list
    # Servers that have no row, and limits that did not hold.
    failures: list

    @cached_property
    def columns(self):
        """In the order in which they are met."""
        return list(dict.fromkeys(column for row in self.rows for column in row.values))

    def has(self, *columns):
        """Whether each of the columns is there, with a value in at least one row."""
        return all(any(row.values.get(column) is not None for row in self.rows) for column in columns)

    def distinct(self, column):
        return list(dict.fromkeys(row.text(column) for row in self.rows))

    def definitions(self, option):
        """What the command says of each name, as in `--target NAME=COMMAND`."""
        pairs = zip(self.command, self.command[1:])
        found = [DEFINITION.fullmatch(word) for before, word in pairs if before == option]
        return {match["name"]: match["what"] for match in found if match}


def gather(paths):
    """The records of files, and of folders the newest of each topic, in the order of topics."""
    files = [file for path in paths for file in (newest(path) if path.is_dir() else [path])]
    records = [read(file) for file in files]
    names = [record.name for record in records]
    for name in names:
        # They would have one place in the page.
        if names.count(name) > 1:
            raise Fault(f"{name}: two records have this name")
    return sorted(records, key=lambda record: (place(record.topic), record.topic))


def place(topic):
    """`faults-contents` comes behind `faults`."""
    first = topic.split("-")[0]
    return TOPICS.index(first) if first in TOPICS else len(TOPICS)


def newest(folder):
    """The newest file of each topic; dates sort as text."""
    files = sorted(folder.glob("*.json"), key=lambda file: named(file))
    if not files:
        raise Fault(f"{folder}: there is no record in it")
    return sorted({named(file)[1]: file for file in files}.values())


def named(file):
    """Date and topic by the name of a file; the date is empty if there is none."""
    match = FILE_NAME.fullmatch(file.stem)
    return (match["date"], match["topic"]) if match else ("", file.stem)


def read(path):
    document = parsed(path)
    if not isinstance(document, dict):
        raise Fault(f"{path}: it is no JSON object")
    date, topic = named(path)
    failures = words(path, document, "failures") if "failures" in document else []
    return Record(
        name=path.stem,
        date=date,
        topic=topic,
        machine=said(path, document, "machine"),
        kernel=said(path, document, "kernel"),
        compiler=said(path, document, "rustc"),
        commit=said(path, document, "commit"),
        command=words(path, document, "command"),
        rows=table(path, document, failures),
        failures=failures,
    )


def parsed(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Fault(f"{path}: it is no JSON: {error}") from error


def refuse(constant):
    """Python would read them; no other reader of JSON would."""
    raise ValueError(f"{constant} is no number")


def said(path, document, key):
    """A line about where the record comes from. A machine without git has no commit: that is null."""
    if key not in document:
        raise Fault(f"{path}: `{key}` is missing")
    if not isinstance(document[key], (str, type(None))):
        raise Fault(f"{path}: `{key}` is no text")
    return document[key] or "unknown"


def words(path, document, key):
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise Fault(f"{path}: `{key}` is no list of words")
    return found


def table(path, document, failures):
    """Without a row only where something failed: then that is what the record says."""
    rows = document.get("table")
    if not isinstance(rows, list) or not (rows or failures):
        raise Fault(f"{path}: `table` is no list of rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row:
            raise Fault(f"{path}: row {number}: it is no object of figures")
        for column, value in row.items():
            check(f"{path}: row {number}: `{column}`", value)
    return [Row(f"{path}: row {number}", row) for number, row in enumerate(rows, 1)]


def check(place, value):
    if isinstance(value, (dict, list)):
        raise Fault(f"{place} is neither a figure nor a word")
    # An exponent beyond what a float holds.
    if isinstance(value, float) and not math.isfinite(value):
        raise Fault(f"{place} is too large a number")
