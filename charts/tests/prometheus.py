"""A real Prometheus on a folder of its own, and pages for it to scrape."""

import http.server
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

SAMPLE = re.compile(r"^(?P<series>(?P<name>\w+)(\{.*\})?) (?P<value>\S+)$")
COUNTED = ("_total", "_sum", "_count", "_bucket")
# Long enough for a busy machine; a Prometheus that is well needs a second.
PATIENCE = 60


class Pages:
    """Serves metrics as pods do. What is counted grows from scrape to scrape."""

    def __init__(self):
        self.pages = {}
        pages = self.pages

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page = pages.get(self.path)
                body = page().encode() if page else b""
                self.send_response(200 if page else 404)
                self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, path, text, changes=()):
        """A page of these samples; a change is a pattern of series and the value that they have instead."""
        scrapes = 0

        def page():
            nonlocal scrapes
            scrapes += 1
            return "".join(f"{self.line(line, scrapes, changes)}\n" for line in text.splitlines())

        self.pages[path] = page

    @staticmethod
    def line(line, scrapes, changes):
        sample = SAMPLE.match(line)
        if not sample or line.startswith("#"):
            return line
        value = float(sample["value"])
        for pattern, other in changes:
            if re.match(pattern, sample["series"]):
                value = other
        return f"{sample['series']} {value * scrapes if sample['name'].endswith(COUNTED) else value}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Prometheus:
    def __init__(self, address, process, log):
        self.address, self.process, self.log = address, process, log

    def ask(self, path, **parameters):
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error}: {error.read().decode()}") from None

    def query(self, expression):
        """The samples that it comes to: their labels and values."""
        data = self.ask("/api/v1/query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def rules(self):
        return [rule for group in self.ask("/api/v1/rules")["groups"] for rule in group["rules"]]

    def until_nothing_lacks(self, left):
        """Asks until nothing is left that lacks; what that is, it names when it gives up. A scrape may fail on a busy machine, and
        what it would have brought is away until the next."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                lacks = left()
            except OSError as error:
                lacks = error
            if not lacks:
                return
            assert self.process.poll() is None and time.monotonic() < deadline, f"{lacks}\n{self.log.read_text()[-4000:]}"
            time.sleep(0.05)

    def await_ready(self):
        def left():
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return answer.status != 200

        self.until_nothing_lacks(left)

    def await_scrapes(self, paths, each=4):
        """Until each target was scraped that often."""
        self.until_nothing_lacks(lambda: paths - {
            labels["job"] for labels, _ in self.query(f"sum_over_time(up[10m]) >= {each}")})


@contextmanager
def prometheus(folder, targets, rules):
    """Started with these targets, (address, path, labels) each, and rules; scrapes and evaluates twice a second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    # YAML is JSON, and more.
    (folder / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": path, "metrics_path": path, "static_configs": [{"targets": [at], "labels": labels}]}
            for at, path, labels in targets]}))
    # Its groups would be evaluated every 15 s, and first at some time within these.
    (folder / "rules.yml").write_text(rules.replace("interval: 15s", "interval: 500ms"))
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={address}", "--log.level=warn"], stdout=output, stderr=subprocess.STDOUT)
    try:
        started = Prometheus(address, process, log)
        started.await_ready()
        yield started
    finally:
        process.kill()
        process.wait()
