"""What `loadtest/report` wrote, as Chromium lays it out.

    chromium_report.py FILE...

FILE is a page or a chart. On a desk and on a phone, by day and by night: no label may leave its chart, lie on another
or on a bar, or be too pale to read, and no page may be wider than its window.
"""

import os
import pathlib
import sys

from chromium import chromium

with open(os.path.join(os.path.dirname(__file__), "chromium_report.js"), encoding="utf-8") as file:
    FAULTS = file.read()


def look(browser, path, width, scheme):
    page = browser.open(pathlib.Path(path).resolve().as_uri(), width)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    labels = page.evaluate("document.querySelectorAll('svg text').length")
    assert labels > 10, f"{path} has only {labels} labels"
    faults = page.evaluate(f"({FAULTS})()")
    assert faults == [], "\n".join([f"{path}, {width} px, {scheme}:", *faults[:20]])
    # A chart is as wide as it is; a page is to fit.
    if path.endswith(".html"):
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{path} is {wide} px wide where there are {width}"
    assert page.complaints == [], page.complaints
    page.close()


with chromium() as browser:
    for path in sys.argv[1:]:
        print(path, flush=True)
        for width in [1400, 400]:
            for scheme in ["light", "dark"]:
                look(browser, path, width, scheme)
print("all is well")
