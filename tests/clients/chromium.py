"""A headless Chromium, driven over the DevTools protocol through a pipe.

It ends with the pipe, and that with this process: nothing is left behind, whatever happens.
"""

import base64
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile

PATIENCE_MS = 60_000

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Pages that nobody looks at are to go on as if somebody did.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-pipe",
]


@contextlib.contextmanager
def chromium(*flags):
    # `timeout` ends a script so; what is below is to be cleared away all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    # It reads from descriptor 3 and writes to 4. Both are taken from here on: what Popen opens for
    # itself must not be there.
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < 4:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    def take_places():
        os.dup2(theirs_in, 3)
        os.dup2(theirs_out, 4)

    with tempfile.TemporaryDirectory(prefix="upring-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["chromium", *FLAGS, *flags, f"--user-data-dir={profile}"],
            preexec_fn=take_places,
            # All but these close by themselves.
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in [*taken, theirs_in, theirs_out]:
            os.close(descriptor)
        try:
            with open(ours_in, "rb") as reading, open(ours_out, "wb") as writing:
                yield Chromium(reading, writing)
        finally:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Chromium:
    def __init__(self, reading, writing):
        self.reading, self.writing = reading, writing
        self.buffer = b""
        self.numbers = itertools.count(1)
        self.pages = {}

    def call(self, method, session=None, **parameters):
        number = next(self.numbers)
        call = {"id": number, "method": method, "params": parameters}
        if session is not None:
            call["sessionId"] = session
        self.writing.write(json.dumps(call).encode() + b"\0")
        self.writing.flush()
        while True:
            said = self.read()
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]
            page = self.pages.get(said.get("sessionId"))
            if page is not None:
                page.note(said)

    def read(self):
        while b"\0" not in self.buffer:
            more = self.reading.read1(1 << 16)
            assert more, "Chromium has ended"
            self.buffer += more
        said, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(said)

    def open(self, url, width=1000, height=1200):
        """A page in a window of its own."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ["Page", "Runtime", "Log"]:
            page.call(f"{domain}.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.resize(width, height)
        page.call("Page.navigate", url=url)
        page.until("location.href !== 'about:blank' && document.readyState === 'complete'")
        return page


class Page:
    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target
        self.complaints = []

    def call(self, method, **parameters):
        return self.browser.call(method, session=self.session, **parameters)

    def note(self, event):
        """Keeps what a person would find in the console."""
        said = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"])
        if event["method"] == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(said["entry"])

    def evaluate(self, expression):
        """The value of an expression, or what its promise comes to."""
        how = {"awaitPromise": True, "returnByValue": True}
        came = self.call("Runtime.evaluate", expression=expression, **how)
        if "exceptionDetails" in came:
            details = came["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return came["result"].get("value")

    def until(self, condition):
        """Waits until something is so, and returns it."""
        return self.evaluate(
            f"""(async () => {{
                const end = Date.now() + {PATIENCE_MS};
                for (;;) {{
                    const is = ({condition});
                    if (is) return is;
                    if (Date.now() > end) throw new Error({json.dumps("never: " + condition)});
                    await new Promise(later => setTimeout(later, 10));
                }}
            }})()"""
        )

    def type(self, element, text):
        """Types a line into an input, as a person would."""
        self.evaluate(f"document.getElementById({json.dumps(element)}).focus()")
        self.call("Input.insertText", text=text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, path):
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(taken["data"]))

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
        del self.browser.pages[self.session]
