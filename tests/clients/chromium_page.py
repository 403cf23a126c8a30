"""The page that upring serves, in Chromium.

    chromium_page.py [--pictures FOLDER] http://HOST:PORT...

Where it is https, whose certificate it is does not matter.
"""

import os
import sys

from chromium import chromium

arguments = sys.argv[1:]
PICTURES = None
if arguments[0] == "--pictures":
    PICTURES, arguments = arguments[1], arguments[2:]


def text(element):
    return f"document.getElementById('{element}').textContent"


def picture(page, name):
    if PICTURES:
        page.picture(os.path.join(PICTURES, f"{name}.png"))


def what_is_typed_comes_back_and_is_shown(page):
    page.until(f"{text('echo-state')} === 'connected'")
    for said in ["hello", "κόσμε 🦀", "<b>plain</b>"]:
        page.type("echo-text", said)
        page.until(f"{text('echo-log')}.includes('{said}')")
    assert page.evaluate("document.getElementById('echo-text').value") == ""
    assert page.evaluate("document.querySelector('#echo-log b')") is None, "markup was taken for such"


def latency_is_shown(page):
    page.until(f"Number({text('latency-count')}) >= 10")
    for figure in ["last", "median", "largest"]:
        shown = page.evaluate(text(f"latency-{figure}"))
        assert shown.endswith((" µs", " ms")) and float(shown[:-3]) > 0, shown
    points = page.evaluate("document.getElementById('latency-line').getAttribute('points')")
    assert len(points.split()) >= 10, points


def two_pages_and_eight_guests_hear_each_other(browser, url, page):
    page.until(f"{text('chat-state')} === 'connected'")
    guests = browser.open(f"{url}/healthz")
    # Eight more: where there are two cores, one of them has not all ten.
    guests.evaluate(
        f"""(async () => {{
            window.heard = Array.from({{length: 8}}, () => []);
            await Promise.all(heard.map(own => new Promise((opened, failed) => {{
                const socket = new WebSocket({f"'{url}/chat'".replace("http", "ws", 1)});
                socket.onopen = opened;
                socket.onclose = failed;
                socket.onmessage = event => own.push(JSON.parse(event.data).said);
            }})));
        }})()"""
    )
    other = browser.open(f"{url}/")
    for who in [page, other]:
        who.until(f"{text('chat-guests')} === '10'")
    for who, said in [(page, "is anybody there?"), (other, "yes, <i>κόσμε</i>")]:
        who.type("chat-text", said)
        for hearer in [page, other]:
            hearer.until(f"{text('chat-log')}.includes({said!r})")
        guests.until(f"heard.every(own => own.includes({said!r}))")
    assert page.evaluate(f"/^you, guest \\d+: is anybody there\\?$/m.test({text('chat-log')})")
    assert page.evaluate(f"/^guest \\d+: yes, /m.test({text('chat-log')})")
    assert other.complaints == [], other.complaints
    other.close()
    guests.close()
    page.until(f"{text('chat-guests')} === '1'")


def it_fits_a_phone(page):
    page.resize(400, 900)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400, f"it is {wide} px wide"
    picture(page, "400")


FLAGS = ["--ignore-certificate-errors"] if arguments[0].startswith("https:") else []

with chromium(*FLAGS) as browser:
    for url in arguments:
        print(url, flush=True)
        page = browser.open(f"{url}/")
        what_is_typed_comes_back_and_is_shown(page)
        latency_is_shown(page)
        two_pages_and_eight_guests_hear_each_other(browser, url, page)
        picture(page, "1000")
        it_fits_a_phone(page)
        assert page.complaints == [], page.complaints
        page.close()
print("all is well")
