"""Where a session stands, asked with the standard library alone: Kaggle's client takes longer to import than to answer.

Only a plain answer counts. Whatever else comes (an error, a redirect, a word that is not known, no answer in time)
is for the backend to ask again, with its retries and its messages.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from urllib.parse import urlsplit

from launcher.targets.base import SessionState, Status
from launcher.targets.credentials import Credentials

TIMEOUT_S = 10.0


def state(url: str, credentials: Credentials, username: str, slug: str) -> SessionState | None:
    """Where the newest session of the kernel `username`/`slug` stands at `url`; None without a plain answer."""
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    request = urllib.request.Request(
        f"{url}{'/api' if local else ''}/v1/kernels.KernelsApiService/GetKernelSessionStatus",
        data=json.dumps({"userName": username, "kernelSlug": slug}).encode(),
        headers={"Content-Type": "application/json", "Authorization": _authorization(credentials)},
        method="POST",
    )
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if local:
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
        return SessionState(Status(answer["status"]), str(answer.get("failureMessage") or ""))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials go to one address only."""

    def redirect_request(self, *_: object) -> None:
        return None


def _authorization(credentials: Credentials) -> str:
    if credentials.token:
        return f"Bearer {credentials.token}"
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.key}".encode()).decode()
