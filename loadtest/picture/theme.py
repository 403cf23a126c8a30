"""Colours and style sheets, for light and for dark.

Upring's rows are of one family, orange; the others are muted blues and greys. By simulation (Machado et al. 2009) any two are
at least 0.06 apart in Oklab for normal sight, deuteranopia, protanopia and tritanopia. Nobody has to tell them apart, though:
every row says its name.
"""

from dataclasses import dataclass

from .servers import OWN_SLOTS, PEER_SLOTS

FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif'
DARK = "@media screen and (prefers-color-scheme: dark)"


@dataclass(frozen=True)
class Palette:
    paper: str
    panel: str
    ink: str
    muted: str
    hair: str
    accent: str
    own: list
    peers: list
    other: str


LIGHT_PALETTE = Palette(
    paper="#fcfcfb",
    panel="#f3f4f4",
    ink="#1b1e24",
    muted="#5a616d",
    hair="#dfe2e6",
    accent="#b83c0a",
    own=["#c2410c", "#ec7a1c", "#7c2d12"],
    peers=["#656668", "#345578", "#5f8fbb", "#31396a", "#84a387", "#7a827d", "#61afc4", "#4c719c"],
    other="#9a9a9a",
)

DARK_PALETTE = Palette(
    paper="#14161a",
    panel="#1d2026",
    ink="#e9eaed",
    muted="#a4abb7",
    hair="#33383f",
    accent="#ff9a57",
    own=["#f97316", "#ffb066", "#c2540f"],
    peers=["#7a7b7b", "#798caf", "#8dafcf", "#5c6c8f", "#b3bbb3", "#979d9d", "#a6d2e1", "#6a6166"],
    other="#b0b0b0",
)

# What charts are apart from their colours: the same in the page and in a file of their own.
CHART_SHAPE = f"""
text {{ font: 12px {FONTS}; font-variant-numeric: tabular-nums; }}
.heading {{ font-size: 18px; font-weight: 600; }}
.title {{ font-size: 14px; font-weight: 600; }}
.subtitle, .head, .tick, .axis {{ font-size: 11px; }}
.ours {{ font-weight: 600; }}
.value {{ paint-order: stroke; stroke-width: 4px; stroke-linejoin: round; }}
.bar, .mark {{ fill: currentColor; }}
.mark {{ stroke-width: 1.5px; }}
.whisker {{ stroke: currentColor; }}
.reach {{ stroke: currentColor; stroke-width: 3px; opacity: 0.45; }}
.second {{ stroke-width: 2px; }}
.reference {{ stroke-width: 1.5px; stroke-dasharray: 5 4; }}
"""


def chart_colours(palette):
    slots = dict(zip([*OWN_SLOTS, "own"], palette.own)) | dict(zip(PEER_SLOTS, palette.peers)) | {"peer": palette.other}
    lines = [f".slot-{slot} {{ color: {colour}; }}" for slot, colour in slots.items()]
    return "\n".join(
        [
            f".heading, .reading, .title, .name, .value {{ fill: {palette.ink}; }}",
            # Lines pass behind words.
            f".value {{ stroke: {palette.paper}; }}",
            f".subtitle, .head, .tick, .axis, .note {{ fill: {palette.muted}; }}",
            f".legend {{ color: {palette.muted}; }}",
            f".grid, .track {{ stroke: {palette.hair}; }}",
            f".zero {{ stroke: {palette.muted}; }}",
            f".second, .reference {{ stroke: {palette.ink}; }}",
            f".mark {{ stroke: {palette.paper}; }}",
            f".paper {{ fill: {palette.paper}; stroke: {palette.hair}; }}",
            *lines,
        ]
    )


def chart_style():
    """Of a file of its own, which has its own paper to stand on."""
    return f"{CHART_SHAPE}{chart_colours(LIGHT_PALETTE)}\n{DARK} {{\n{chart_colours(DARK_PALETTE)}\n}}\n"


PAGE_SHAPE = f"""
* {{ box-sizing: border-box; }}
html {{ color-scheme: light dark; -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; font: 16px/1.55 {FONTS}; }}
main {{ max-width: 1280px; margin: 0 auto; padding: 48px 32px 96px; overflow-wrap: anywhere; }}
h1 {{ font-size: clamp(28px, 5vw, 42px); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 12px; }}
h2 {{ font-size: clamp(21px, 3vw, 26px); line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 8px; }}
h3 {{ font-size: 17px; margin: 0; }}
.from a {{ font-weight: 600; }}
p {{ max-width: 72ch; margin: 0 0 12px; }}
section {{ border-top: 1px solid; padding-top: 28px; margin-top: 56px; }}
nav ul, .servers {{ list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 22px; }}
nav ul {{ margin-top: 24px; }}
nav, .servers {{ font-size: 15px; }}
.servers {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 8px 36px; }}
.servers li {{ display: flex; gap: 10px; align-items: baseline; }}
.swatch {{ flex: none; width: 12px; height: 12px; border-radius: 3px; background: currentColor; print-color-adjust: exact; }}
.lead {{ font-size: 18px; }}
.from, figcaption, summary {{ font-size: 14px; }}
figure {{ margin: 28px 0 0; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); gap: 32px 40px; }}
.panels {{ margin: 18px 0 14px; }}
.panels svg {{ display: block; width: 100%; height: auto; max-width: 480px; }}
figcaption {{ max-width: 90ch; }}
@media (min-width: 1000px) {{
  .beside {{ display: grid; grid-template-columns: 1fr 1fr; gap: 0 56px; }}
  .beside figure {{ margin: 0; }}
}}
details {{ margin-top: 10px; }}
summary {{ cursor: pointer; width: fit-content; }}
.scrolled {{ overflow-x: auto; margin-top: 10px; }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 4px 14px 4px 0; text-align: right; white-space: nowrap; border-bottom: 1px solid; }}
th {{ font-weight: 600; vertical-align: bottom; }}
.word {{ text-align: left; }}
dl {{ display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 18px; margin: 10px 0 0; font-size: 14px; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
pre {{ margin: 12px 0 0; padding: 12px 14px; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
article {{ margin-top: 36px; }}
@media (max-width: 600px) {{ main {{ padding: 28px 14px 64px; }} .panels {{ gap: 28px; }} section {{ margin-top: 44px; }} }}
"""

# On paper the figures are in the charts; the exact ones stay in the file.
PRINT = """
@media print {
  @page { margin: 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, details { display: none; }
  .panels { grid-template-columns: repeat(2, 1fr); gap: 22px 28px; }
  .panels svg, article, tr { break-inside: avoid; }
  h2, h3, section > p { break-after: avoid; }
  section { margin-top: 28px; }
}
"""


def page_colours(palette):
    return "\n".join(
        [
            f"body {{ background: {palette.paper}; color: {palette.ink}; }}",
            f".from, figcaption, summary, dt, .about {{ color: {palette.muted}; }}",
            f"section, th, td {{ border-color: {palette.hair}; }}",
            f"a {{ color: {palette.accent}; }}",
            f"pre {{ background: {palette.panel}; }}",
        ]
    )


def page_style():
    light = f"{page_colours(LIGHT_PALETTE)}\n{chart_colours(LIGHT_PALETTE)}"
    dark = f"{page_colours(DARK_PALETTE)}\n{chart_colours(DARK_PALETTE)}"
    return f"{PAGE_SHAPE}{CHART_SHAPE}{light}\n{DARK} {{\n{dark}\n}}\n{PRINT}"
