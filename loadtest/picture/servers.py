"""Who is who in a record: upring's own rows before the others, and a slot of the palette for each.

A server keeps its slot in every chart of a page. Colours themselves are in `theme`.
"""

from dataclasses import dataclass

OURS = "upring"
OWN_SLOTS = ["hosted", "native"]
PEER_SLOTS = ["baseline", "epoll", "hyper", "tungstenite", "fastwebsockets", "fastwebsockets-corked", "nginx", "haproxy"]

ABOUT = {
    "hosted": "on tokio-uring, so that async handlers work; the default",
    "native": "on a bare loop of its own",
    "baseline": "the same answers, wholly on tokio-uring's public API",
    "epoll": "the same answers, plainly on epoll",
    "hyper": "hyper on tokio, with hyper's upgrade",
    "hyper-flush": "hyper on tokio, answers to pipelined requests written at once",
    "tungstenite": "tokio-tungstenite on tokio",
    "fastwebsockets": "fastwebsockets on tokio",
    "fastwebsockets-corked": "fastwebsockets on tokio, its answers gathered before they leave",
    "nginx": "nginx as Debian has it",
    "haproxy": "HAProxy as Debian has it",
    "hyper-tls-ring": "hyper on tokio-rustls, by ring, as upring has it",
}
IN_TLS = "-tls"


@dataclass(frozen=True)
class Server:
    name: str
    slot: str
    is_ours: bool

    @property
    def label(self):
        """`hosted` alone says nothing to somebody who sees one chart."""
        is_plain = self.is_ours and not self.name.startswith(OURS)
        return f"{OURS} {self.name}" if is_plain else self.name

    @property
    def about(self):
        about = ABOUT.get(key(self.name), "")
        return f"{about}; in TLS" if about and self.name.endswith(IN_TLS) else about


class Servers:
    """All servers of some records, in the order in which every chart has them."""

    def __init__(self, records):
        commands = {}
        for record in records:
            for name in record.distinct("target") if record.has("target") else []:
                commands.setdefault(name, record.definitions("--target").get(name, ""))
        ours = [name for name, command in commands.items() if is_ours(name, command)]
        peers = [name for name in commands if name not in ours]
        slots = {**slots_of(ours, OWN_SLOTS, "own"), **slots_of(peers, PEER_SLOTS, "peer")}
        place = [*OWN_SLOTS, "own", *PEER_SLOTS, "peer"]
        ours.sort(key=lambda name: place.index(slots[name]))
        peers.sort(key=lambda name: place.index(slots[name]))
        self.by_name = {name: Server(name, slots[name], name in ours) for name in [*ours, *peers]}

    def __iter__(self):
        return iter(self.by_name.values())

    def of(self, row):
        return self.by_name[row.text("target")]

    def sorted(self, rows):
        """Upring's first; the same order in every panel."""
        place = {name: number for number, name in enumerate(self.by_name)}
        return sorted(rows, key=lambda row: place[row.text("target")])


def is_ours(name, command):
    """By its program, where the record has its command, and by its name where it was running already."""
    program = command.split(" ")[0].rpartition("/")[2]
    return program == OURS or name.startswith(OURS) or key(name) in OWN_SLOTS


def key(name):
    """In TLS it is the same server."""
    return name.removeprefix(f"{OURS}-").removesuffix(IN_TLS)


def slots_of(names, known, spare):
    """The slot by its name for who has one, and those that are left over, then a last one for the rest."""
    taken = {name: key(name) for name in names if key(name) in known}
    free = [slot for slot in known if slot not in taken.values()] if spare == "peer" else []
    for name in names:
        if name not in taken:
            taken[name] = free.pop(0) if free else spare
    return taken
