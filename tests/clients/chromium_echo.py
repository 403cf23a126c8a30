"""Chromium's own WebSocket against echoes.

    chromium_echo.py URL [deflate]...

URL is of an echo, as ws://HOST:PORT/ws; `deflate` behind one that compresses.
"""

import json
import os
import sys
from urllib.parse import urlsplit

from chromium import chromium

with open(os.path.join(os.path.dirname(__file__), "chromium_echo.js"), encoding="utf-8") as file:
    CHECKS = file.read()


def a_page_of_another_origin_is_refused(browser, url):
    page = browser.open(f"http://localhost:{urlsplit(url).port}/healthz")
    code = page.evaluate(
        f"new Promise(closed => new WebSocket('{url}').onclose = event => closed(event.code))"
    )
    # What a page is told of a connection that there never was.
    assert code == 1006, code
    page.close()


arguments = sys.argv[1:]
with chromium() as browser:
    while arguments:
        url = arguments.pop(0)
        compresses = arguments[:1] == ["deflate"]
        del arguments[:compresses]
        print(url, flush=True)
        page = browser.open(f"http://{urlsplit(url).netloc}/healthz")
        page.evaluate(f"({CHECKS})({json.dumps(url)}, {json.dumps(compresses)})")
        page.close()
        if not compresses:
            a_page_of_another_origin_is_refused(browser, url)
print("all is well")
