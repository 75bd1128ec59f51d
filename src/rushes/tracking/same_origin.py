"""MLflow's server for its own pages and for programs, not for other pages in a browser (`--app-name rushes`).

MLflow itself checks the Host header, but lets every page of localhost, whatever its port, read and change everything,
and any page post to what is not under /api/. Programs, such as its client, send no Origin and pass.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

APP_NAME = "rushes"
"""Its entry point in the group `mlflow.app`."""
_REFUSED = b"Refused: a page of another origin asked. Open MLflow by its own address.\n"


def create_app() -> "ASGIApp":
    """MLflow's own application behind the check."""
    from mlflow.server.fastapi_app import app

    return SameOrigin(app)


class SameOrigin:
    """Refuses the requests that a browser sends for pages of other origins."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers 403, or passes the request on."""
        if scope["type"] == "lifespan" or not is_foreign(scope["headers"], method=scope.get("method", "")):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_REFUSED)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSED})


def is_foreign(headers: Iterable[tuple[bytes, bytes]], *, method: str) -> bool:
    """Whether a request comes from a page of another origin; to follow a link there is allowed.

    Browsers send Origin with every request that may change something or that a page reads across origins, and
    Sec-Fetch-Site with all others.
    """
    found = [(name.lower(), value.decode("latin-1")) for name, value in headers]
    hosts = {value for name, value in found if name == b"host"}
    origins = [value for name, value in found if name == b"origin"]
    if origins:
        return {urlsplit(origin).netloc for origin in origins} != hosts or len(hosts) != 1
    fetched = {name: value for name, value in found if name.startswith(b"sec-fetch-")}
    if fetched.get(b"sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    link = (fetched.get(b"sec-fetch-mode"), fetched.get(b"sec-fetch-dest")) == ("navigate", "document")
    return not (link and method == "GET")
