"""Answers in JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flask import Response, request


def json_response(content: Any) -> Response:
    """Return an answer with `content` as JSON, or status 304 if the client already has the same answer."""
    body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    response = Response(body, mimetype="application/json")
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response
