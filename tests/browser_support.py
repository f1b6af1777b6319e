"""A headless Chromium driven over its pipe, and a folder served on this machine: enough to see a page work."""

import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager

CHROMIUM = next((found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), None)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        self.server.asked.append(self.path)


@contextmanager
def served(folder):
    """Address of ``folder``, and the list of paths asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """One page of a headless Chromium. ``talk`` gathers its console, errors and requests."""

    def __init__(self, profile, width=1200, height=900):
        down, up = os.pipe(), os.pipe()

        def pipes():  # Chromium reads commands from 3 and answers on 4
            a, b = os.dup(down[0]), os.dup(up[1])
            os.dup2(a, 3)
            os.dup2(b, 4)

        words = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ]
        self.process = subprocess.Popen(
            [CHROMIUM, *words], preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(down[0])
        os.close(up[1])
        self.out, self.back, self.rest = down[1], up[0], b""
        self.count, self.talk, self.session = 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def size(self, width, height, ratio=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=width < 600)

    def call(self, method, **given):
        self.count += 1
        message = {"id": self.count, "method": method, "params": given}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.talk.append(answer)

    def _read(self):
        while b"\0" not in self.rest:
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def js(self, text):
        """Value of an expression; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def open(self, address):
        self.call("Page.navigate", url=address)

    def wait(self, text, seconds=60):
        end = time.monotonic() + seconds
        while not self.js(text):
            if time.monotonic() > end:
                raise TimeoutError(f"{text}; the page says {self.js('document.body.innerText')[:500]!r}")
            time.sleep(0.05)

    def picture(self, path, whole=True):
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def complaints(self):
        """Errors and warnings of the console, exceptions, and what the security policy refused."""
        found = []
        for event in self.talk:
            about = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(
                    about["exceptionDetails"].get("text", "") + about["exceptionDetails"].get("exception", {}).get("description", "")
                )
            if event.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                found.append(about["entry"]["text"] + " " + about["entry"].get("url", ""))
            if event.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
                found.append(" ".join(str(a.get("value")) for a in about["args"]))
        return found

    @property
    def requests(self):
        return [e["params"]["request"]["url"] for e in self.talk if e.get("method") == "Network.requestWillBeSent"]

    def close(self):
        os.close(self.out)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.back)


@contextmanager
def browser(profile, **size):
    opened = Browser(profile, **size)
    try:
        yield opened
    finally:
        opened.close()
