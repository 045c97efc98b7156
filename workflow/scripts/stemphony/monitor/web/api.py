"""The routes for programs: simulations, pairs and events as JSON, health, and metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from stemphony.monitor.database import pairs, simulations, timeline
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import finished_of, outlook_of, progress_of, state_of
from stemphony.monitor.web import bounds, metrics, openapi
from stemphony.monitor.web.queries import (
    filter_of_request,
    flag_of_request,
    number_of_request,
    place_of_request,
    simulation_of_request,
)
from stemphony.monitor.web.responses import json_response
from stemphony.monitor.web.services import Services


def blueprint(services: Services) -> Blueprint:
    """Return the routes of the API of the monitor whose parts are `services`."""
    routes = Blueprint("api", __name__)

    @routes.get("/api/simulations")
    def list_simulations() -> Response:
        wanted, now = filter_of_request(), services.clock()
        with services.database.reader.begin() as connection:
            found = simulations.listed(connection, wanted, now, services.stale_after_s)
            parameters = simulations.parameters(connection, [entry.row for entry in found])
        listed = [_listed(entry, parameters[entry.row], now, services.stale_after_s) for entry in found]
        following = wanted.page + 1 if len(found) == simulations.PER_PAGE else None
        return json_response({"simulations": listed, "next": following})

    @routes.get("/api/simulations/<int:row>")
    def one_simulation(row: int) -> Response:
        with services.database.reader.begin() as connection:
            found = simulation_of_request(connection, row)
            parameters = simulations.parameters(connection, [row])[row]
        shown = bounds.fitting_parameters(parameters, bounds.ALL_PARAMETERS_BYTES)
        return json_response(_simulation(found, shown, services.clock(), services.stale_after_s))

    @routes.get("/api/simulations/<int:row>/pairs")
    def list_pairs(row: int) -> Response:
        since, after = number_of_request("since"), place_of_request("after")
        with services.database.reader.begin() as connection:
            found = simulation_of_request(connection, row)
            values = {entry.key: entry.defocus for entry in pairs.defoci(connection, row)}
            cells = pairs.cells(connection, found, since, after, bounds.PAIRS_PER_PAGE + 1)
        listed = [_pair(cell, values) for cell in cells[: bounds.PAIRS_PER_PAGE]]
        last = listed[-1] if len(cells) > len(listed) else None
        following = f"{last['defocus_key']}:{last['configuration']}" if last else None
        return json_response({"revision": found.revision, "pairs": listed, "next": following})

    @routes.get("/api/simulations/<int:row>/events")
    def list_events(row: int) -> Response:
        before = number_of_request("before")
        with services.database.reader.begin() as connection:
            simulation_of_request(connection, row)
            found = timeline.events(connection, row, before, flag_of_request("all"))
        whole = len(found) < timeline.EVENTS_PER_PAGE
        shown = list(bounds.fitting(((entry, entry.size) for entry in found), bounds.EVENTS_BYTES))
        listed = [{**{name: getattr(entry, name) for name in _OF_AN_EVENT}, "event": entry.body} for entry in shown]
        following = None if whole and len(shown) == len(found) else shown[-1].row
        return json_response({"events": listed, "next": following})

    @routes.get("/api/openapi.json")
    def description() -> Response:
        return json_response(openapi.description())

    @routes.get("/healthz")
    def health() -> Response:
        """Answer 200 if the database takes events, else 503."""
        well = services.writer.is_well
        state = "ok" if well else "the database does not take events"
        if services.writer.is_displaced:
            state = "another monitor serves the database; this one stores nothing"
        return Response(json.dumps({"status": state}) + "\n", 200 if well else 503, mimetype="application/json")

    @routes.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(services), content_type=metrics.CONTENT_TYPE)

    return routes


_OF_AN_EVENT = ("row", "received", "sender", "held")
"""Attributes of a stored event that the API adds to it."""
_STATES = {letter: state.value for state, letter in pairs.LETTERS.items()}
"""State in words for each letter of `pairs.cells`."""
_GIVEN_AS_STORED = (
    "row", "title", "run", "num_defoci", "num_configurations", "num_threads", "num_processors", "failed",
    "num_never_ran", "run_started", "last_received", "ended_at", "version", "events", "revision",
)  # fmt: skip
"""Attributes of a simulation that the API gives as they are stored."""


def _pair(cell: tuple[str, int, str, int, int], defoci: Mapping[str, float | None]) -> dict[str, Any]:
    key, configuration, letter, percent, attempt = cell
    return {
        "defocus_key": key,
        "defocus": defoci.get(key),
        "configuration": configuration,
        "state": _STATES[letter],
        "percent": percent,
        "attempt": attempt,
    }


def _listed(
    simulation: SimulationSummary, parameters: dict[str, str], now: float, stale_after_s: float
) -> dict[str, Any]:
    """Return the entry of a simulation in the list. Long texts are cut. `/api/simulations/ROW` has the whole texts."""
    shown = bounds.fitting_parameters(parameters, bounds.LISTED_JSON_BYTES)
    found = _simulation(simulation, shown, now, stale_after_s)
    return {
        **found,
        "title": bounds.cut(simulation.title, bounds.LISTED_TITLE),
        "message": bounds.cut(simulation.end_message, bounds.LISTED_MESSAGE),
        "version": bounds.cut(simulation.version, bounds.LISTED_NAME),
    }


def _simulation(
    simulation: SimulationSummary, parameters: dict[str, str], now: float, stale_after_s: float
) -> dict[str, Any]:
    outlook = outlook_of(simulation, now)
    return {
        **{name: getattr(simulation, name) for name in _GIVEN_AS_STORED},
        "id": simulation.uid,
        "message": simulation.end_message,
        "state": state_of(simulation, now, stale_after_s).value,
        "progress": progress_of(simulation),
        "finished": finished_of(simulation),
        "running": 0 if simulation.ended else simulation.running,
        "rate_per_s": outlook.rate_per_s if outlook else None,
        "earliest_end_s": round(outlook.earliest_s) if outlook else None,
        "latest_end_s": round(outlook.latest_s) if outlook else None,
        "owner": simulation.owner,
        "conflicts": simulation.held,
        "parameters": parameters,
    }
