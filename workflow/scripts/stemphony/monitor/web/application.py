"""The web application: admission of requests, headers and errors of all answers, and the routes that take events."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response, g, render_template, request
from werkzeug.exceptions import HTTPException

from stemphony.monitor.database.connection import is_away, reason
from stemphony.monitor.database.credentials import Credential, Role
from stemphony.monitor.intake import incoming, limits
from stemphony.monitor.intake.incoming import Refused
from stemphony.monitor.intake.writer import NotStored, Receipt
from stemphony.monitor.web import api, pages
from stemphony.monitor.web.services import Services

TRY_AGAIN_S: Final = 5
"""Value of `Retry-After` while the database does not answer [s]."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What a browser may load for a page: only files of the monitor, and nothing that is written into the page."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    # For browsers that do not know `frame-ancestors`.
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of each answer, unless the answer sets them itself."""
EVENT_PATHS: Final = ("/", "/events", "/stemsalabim-reporting")
"""Paths that take one event. The last path is the example in the documentation of STEMsalabim."""

_FREE_PATHS: Final = ("/healthz", "/static/")
"""Beginnings of paths that need no credential: the check of health, and the files of the pages."""


def make_application(services: Services) -> Flask:
    """Return the web application of the monitor whose parts are `services`."""
    # Flask looks for templates and static files in the folder of this package.
    app = Flask("stemphony.monitor")
    app.config["MAX_CONTENT_LENGTH"] = limits.MAX_BODY_BYTES
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.before_request
    def admit() -> Response | None:
        return _admit(services)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "private, max-age=300"
        if response.status_code >= 400:
            services.count_refusal(response.status_code)
        elif request.method == "GET" and not request.path.startswith(_FREE_PATHS):
            services.note_read()
        return response

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        return _error(error.status, str(error))

    @app.errorhandler(NotStored)
    def not_stored(error: NotStored) -> Response:
        return _try_again(f"not stored: {error}. Send it again later.")

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = _error(error.code or 500, error.description or error.name)
        if error.code == 405 and (allowed := dict(error.get_headers()).get("Allow")):
            response.headers["Allow"] = allowed
        return response

    @app.errorhandler(Exception)
    def internal_error(error: Exception) -> Response:
        if is_away(error):
            services.note_away(reason(error))
            return _try_again(
                "the database does not answer. Try again in some seconds. The monitor's log has the reason."
            )
        app.logger.error("%s %r: %s", request.method, request.path, type(error).__name__, exc_info=error)
        return _error(500, "the monitor failed to answer this. Its log has the reason.")

    def event() -> Response:
        return _receipt(services.writer.store([incoming.read_event(_body(), services.clock(), _sender())]))

    for path in EVENT_PATHS:
        app.add_url_rule(path, f"event_{path}", event, methods=["POST"])

    @app.post("/events/batch")
    def batch() -> Response:
        return _receipt(services.writer.store(incoming.read_batch(_body(), services.clock(), _sender())))

    app.register_blueprint(api.blueprint(services))
    app.register_blueprint(pages.blueprint(services))
    return app


def _body() -> bytes:
    if request.mimetype != "application/json":
        raise Refused(415, "Content-Type must be application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "Content-Encoding is not supported. Send the JSON without compression.")
    return request.get_data(cache=False)


def _sender() -> str:
    """Return the name of the credential of this request. Empty if the monitor has no credentials."""
    return str(g.get("sender", ""))


def _receipt(receipt: Receipt) -> Response:
    content = {"stored": receipt.stored, "duplicates": receipt.duplicates}
    if receipt.conflicts:
        content["conflicts"] = receipt.conflicts
    return Response(json.dumps(content) + "\n", mimetype="application/json")


def _admit(services: Services) -> Response | None:
    """Check rate, header `Host` and credential. Return None for an admitted request, else the answer."""
    if request.path.startswith(_FREE_PATHS):
        return None
    header = request.headers.get("Authorization", "")
    credential = services.gate.credential_of(header) if header else None
    client = credential.name if credential else f"address {request.remote_addr}"
    if (wait_s := services.rate.wait_s(client)) > 0:
        response = _error(429, "too many requests.")
        response.headers["Retry-After"] = str(max(1, round(wait_s + 0.5)))
        return response
    g.sender = credential.name if credential else ""
    if services.gate.is_open:
        return _admit_without_credentials(services)
    return _admit_role(credential)


def _admit_without_credentials(services: Services) -> Response | None:
    host = urlsplit(f"//{request.host}").hostname or ""
    if host not in services.hosts:
        names = ", ".join(sorted(services.hosts))
        return _error(403, f"this monitor has no credentials, so it only answers to {names}.")
    return None


def _admit_role(credential: Credential | None) -> Response | None:
    if credential is None:
        response = _error(401, "a credential is missing or wrong. `stemphony monitor token add` creates one.")
        response.headers["WWW-Authenticate"] = 'Basic realm="Stemphony monitor", charset="UTF-8"'
        return response
    wanted = Role.READER if request.method in ("GET", "HEAD", "OPTIONS") else Role.WRITER
    if credential.role is not wanted:
        return _error(403, f"{credential.name} is a {credential.role.value}. This needs a {wanted.value}.")
    return None


def _error(status: int, what: str) -> Response:
    """Return an error as JSON, or as a page if a browser asks for one."""
    best = request.accept_mimetypes.best_match(["application/json", "text/html"], default="application/json")
    if best == "text/html" and request.method == "GET" and not request.path.startswith("/api/"):
        return Response(render_template("error.html", status=status, what=what), status, mimetype="text/html")
    return Response(json.dumps({"error": what}) + "\n", status, mimetype="application/json")


def _try_again(what: str) -> Response:
    response = _error(503, what)
    response.headers["Retry-After"] = str(TRY_AGAIN_S)
    return response
