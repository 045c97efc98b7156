"""What programs read: simulations, pairs, events as JSON, health, and metrics."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flask import Blueprint, Response, request

from stemphony.monitor.database import reading
from stemphony.monitor.intake.incoming import Refused
from stemphony.monitor.intake.limits import MAX_INTEGER, MAX_TEXT_CHARACTERS
from stemphony.monitor.state import State, finished_of, outlook_of, progress_of, state_of
from stemphony.monitor.summaries import SimulationSummary
from stemphony.monitor.web import metrics, openapi
from stemphony.monitor.web.services import Services

MAX_PAGE = 100_000


def blueprint(services: Services) -> Blueprint:
    """Make the routes of a monitor."""
    routes = Blueprint("api", __name__)

    @routes.get("/api/simulations")
    def simulations() -> Response:
        wanted, now = filter_of_request(), services.clock()
        with services.database.reader.begin() as connection:
            found = reading.simulations(connection, wanted, now, services.stale_after_s)
            parameters = reading.parameters(connection, [entry.row for entry in found])
        listed = [_simulation(entry, parameters[entry.row], now, services.stale_after_s) for entry in found]
        return json_response({"simulations": listed})

    @routes.get("/api/simulations/<int:row>")
    def simulation(row: int) -> Response:
        with services.database.reader.begin() as connection:
            found = wanted_simulation(reading.simulation(connection, checked(row)))
            parameters = reading.parameters(connection, [row])[row]
        return json_response(_simulation(found, parameters, services.clock(), services.stale_after_s))

    @routes.get("/api/simulations/<int:row>/pairs")
    def pairs(row: int) -> Response:
        since = number_of_request("since")
        with services.database.reader.begin() as connection:
            found = wanted_simulation(reading.simulation(connection, checked(row)))
            values = {entry.key: entry.defocus for entry in reading.defoci(connection, row)}
            cells = reading.cells(connection, found, since)
        states = {letter: state.value for state, letter in reading.LETTERS.items()}
        listed = [
            {
                "defocus_key": key,
                "defocus": values.get(key),
                "configuration": configuration,
                "state": states[letter],
                "percent": percent,
                "attempt": attempt,
            }
            for key, configuration, letter, percent, attempt in cells
        ]
        return json_response({"revision": found.revision, "pairs": listed})

    @routes.get("/api/simulations/<int:row>/events")
    def events(row: int) -> Response:
        before = number_of_request("before")
        with services.database.reader.begin() as connection:
            wanted_simulation(reading.simulation(connection, checked(row)))
            found = reading.events(connection, row, before, flag_of_request("all"))
        listed = [{"row": entry.row, "received": entry.received, "event": entry.body} for entry in found]
        return json_response({"events": listed})

    @routes.get("/api/openapi.json")
    def description() -> Response:
        return json_response(openapi.description())

    @routes.get("/healthz")
    def health() -> Response:
        """Whether events are being stored."""
        well = services.writer.is_well
        state = "ok" if well else "the database does not take events"
        if services.writer.is_displaced:
            state = "another monitor serves the database; this one stores nothing"
        return Response(json.dumps({"status": state}) + "\n", 200 if well else 503, mimetype="application/json")

    @routes.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(services), content_type=metrics.CONTENT_TYPE)

    return routes


def json_response(content: Any) -> Response:
    """Answer with JSON, or with 304 if the asker has the same already."""
    body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    response = Response(body, mimetype="application/json")
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def wanted_simulation(found: SimulationSummary | None) -> SimulationSummary:
    """The simulation that was asked for, or 404."""
    if found is None:
        raise Refused(404, "there is no such simulation.")
    return found


def checked(row: int) -> int:
    """A number that every database takes as one of a row."""
    if row > MAX_INTEGER:
        raise Refused(404, "there is no such simulation.")
    return row


def number_of_request(name: str, most: int = MAX_INTEGER) -> int:
    """A whole number of the query, 0 if it is not there."""
    text = request.args.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= most):
        raise Refused(400, f"`{name}` must be a whole number from 0 to {most}.")
    return int(text)


def flag_of_request(name: str) -> bool:
    """A yes or no of the query, `1` or `0`."""
    text = request.args.get(name, "")
    if text not in ("", "0", "1"):
        raise Refused(400, f"`{name}` must be 0 or 1.")
    return text == "1"


def filter_of_request() -> reading.Filter:
    """Which simulations the query wants: `state`, `text`, `page`, and custom parameters as `p.NAME=VALUE`."""
    state = request.args.get("state", "")
    if state and state not in {known.value for known in State}:
        raise Refused(400, f"`state` must be one of {', '.join(State)}.")
    parameters = [
        (name.removeprefix("p."), value)
        for name, value in request.args.items(multi=True)
        if name.startswith("p.") and value
    ]
    texts = [request.args.get("text", ""), *(part for pair in parameters for part in pair)]
    if any("\0" in text or len(text) > MAX_TEXT_CHARACTERS for text in texts):
        raise Refused(400, f"a filter has a zero character or more than {MAX_TEXT_CHARACTERS} characters.")
    if len(parameters) > 10:
        raise Refused(400, "at most 10 parameters can be filtered by.")
    return reading.Filter(state, texts[0].strip(), tuple(parameters), number_of_request("page", MAX_PAGE))


def _simulation(
    simulation: SimulationSummary, parameters: dict[str, str], now: float, stale_after_s: float
) -> dict[str, Any]:
    outlook = outlook_of(simulation, now)
    return {
        "row": simulation.row,
        "id": simulation.uid,
        "title": simulation.title,
        "state": state_of(simulation, now, stale_after_s).value,
        "progress": progress_of(simulation),
        "run": simulation.run,
        "num_defoci": simulation.num_defoci,
        "num_configurations": simulation.num_configurations,
        "num_threads": simulation.num_threads,
        "num_processors": simulation.num_processors,
        "finished": finished_of(simulation),
        "failed": simulation.failed,
        "running": 0 if simulation.ended else simulation.running,
        "num_never_ran": simulation.num_never_ran,
        "run_started": simulation.run_started,
        "last_received": simulation.last_received,
        "ended_at": simulation.ended_at,
        "message": simulation.end_message,
        "rate_per_s": outlook.rate_per_s if outlook else None,
        "earliest_end_s": round(outlook.earliest_s) if outlook else None,
        "latest_end_s": round(outlook.latest_s) if outlook else None,
        "version": simulation.version,
        "events": simulation.events,
        "revision": simulation.revision,
        "parameters": parameters,
    }
