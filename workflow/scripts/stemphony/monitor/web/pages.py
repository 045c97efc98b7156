"""What people read: the list of simulations, one simulation, its events. Each page is whole without its script; the
script asks the `live` route beside it for what has changed since.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request

from stemphony.monitor.database import reading
from stemphony.monitor.intake import preview
from stemphony.monitor.intake.incoming import Refused
from stemphony.monitor.intake.limits import MAX_INDEX, MAX_TEXT_CHARACTERS
from stemphony.monitor.state import State
from stemphony.monitor.summaries import SimulationSummary
from stemphony.monitor.web import views
from stemphony.monitor.web.api import (
    checked,
    filter_of_request,
    flag_of_request,
    json_response,
    number_of_request,
    wanted_simulation,
)
from stemphony.monitor.web.services import Services

LIST_SECTIONS: Final = ("counts", "simulations")
SIMULATION_SECTIONS: Final = ("summary", "previews", "failures", "working", "timeline")
SHORT_TIMELINE: Final = 15


def blueprint(services: Services) -> Blueprint:
    """Make the routes of a monitor."""
    routes = Blueprint("pages", __name__)

    @routes.get("/")
    def simulations() -> str:
        with services.database.reader.begin() as connection:
            choices = reading.parameter_choices(connection)
        return render_template("simulations.html", choices=choices, **_list(services))

    @routes.get("/live")
    def live_list() -> Response:
        content = _list(services)
        return json_response({"sections": _sections(LIST_SECTIONS, content)})

    @routes.get("/simulations/<int:row>")
    def simulation(row: int) -> str:
        content = _one(services, row)
        with services.database.reader.begin() as connection:
            cells = reading.cells(connection, content["summary"])
            grid = views.grid(content["summary"], reading.defoci(connection, row), cells)
        return render_template("simulation.html", grid=grid, **content)

    @routes.get("/simulations/<int:row>/live")
    def live_simulation(row: int) -> Response:
        """What changed after a revision; the grid as a whole only where its shape is no longer that of the page."""
        since, shape = number_of_request("since"), request.args.get("shape", "")
        content = _one(services, row)
        summary: SimulationSummary = content["summary"]
        with services.database.reader.begin() as connection:
            defoci = reading.defoci(connection, row)
            changed = reading.cells(connection, summary, since if _is_same_run(summary) else 0)
            drawn = views.grid(summary, defoci, [])
            grid = {}
            if drawn.shape != shape:
                drawn = views.grid(summary, defoci, reading.cells(connection, summary))
                grid = {"html": drawn.html, "shape": drawn.shape, "size": drawn.size}
        return json_response(
            {
                "revision": summary.revision,
                "run": f"{summary.run} {summary.ended}",
                "over": bool(summary.ended),
                "title": f"{content['simulation'].percent} % {content['simulation'].title}",
                "sections": _sections(SIMULATION_SECTIONS, content),
                "cells": [] if grid else changed,
                "grid": grid,
            }
        )

    @routes.get("/simulations/<int:row>/cell")
    def cell(row: int) -> str:
        key = _defocus_of_request()
        configuration = number_of_request("configuration", MAX_INDEX)
        with services.database.reader.begin() as connection:
            summary = wanted_simulation(reading.simulation(connection, checked(row)))
            pair = reading.pair(connection, summary, key, configuration)
            name = reading.result_name(connection, summary)
        now = services.clock()
        return render_template("_cell.html", pair=pair, configuration=configuration, **_words(now, name))

    @routes.get("/simulations/<int:row>/preview.png")
    def preview_image(row: int) -> Response:
        """The averaged image of a defocus; its page asks with another `revision` when it has changed."""
        with services.database.reader.begin() as connection:
            average = preview.average_of(connection, checked(row), _defocus_of_request())
        if average is None:
            raise Refused(404, "there is no such image.")
        return Response(average.png(), mimetype="image/png")

    @routes.get("/simulations/<int:row>/events")
    def events(row: int) -> str:
        before, all_of_them = number_of_request("before"), flag_of_request("all")
        with services.database.reader.begin() as connection:
            summary = wanted_simulation(reading.simulation(connection, checked(row)))
            found = reading.events(connection, row, before, all_of_them)
        now = services.clock()
        view = views.simulation_view(summary, {}, now, services.stale_after_s)
        older = found[-1].row if len(found) == reading.EVENTS_PER_PAGE else 0
        return render_template(
            "events.html", simulation=view, events=found, older=older, before=before, all_of_them=all_of_them,
            **_words(now),
        )  # fmt: skip

    return routes


def _defocus_of_request() -> str:
    key = request.args.get("defocus", "")
    if len(key) > MAX_TEXT_CHARACTERS or "\0" in key:
        raise Refused(400, "`defocus` is no name of one.")
    return key


def _is_same_run(summary: SimulationSummary) -> bool:
    """Cells change without an event of their own when a run begins or ends: those that ran have stopped."""
    return request.args.get("run", "") == f"{summary.run} {summary.ended}"


def _list(services: Services) -> dict[str, Any]:
    wanted, now = filter_of_request(), services.clock()
    with services.database.reader.begin() as connection:
        found = reading.simulations(connection, wanted, now, services.stale_after_s)
        parameters = reading.parameters(connection, [entry.row for entry in found])
        counts = reading.counts(connection, now, services.stale_after_s)
    return {
        "simulations": [
            views.simulation_view(entry, parameters[entry.row], now, services.stale_after_s) for entry in found
        ],
        "counts": counts,
        "states": list(State),
        "total": sum(counts.values()),
        "wanted": wanted,
        "is_full": len(found) == reading.PER_PAGE,
        "link": _link_of(wanted),
        "host": request.host_url,
        "is_open": services.gate.is_open,
        **_words(now),
    }


def _one(services: Services, row: int) -> dict[str, Any]:
    now = services.clock()
    with services.database.reader.begin() as connection:
        summary = wanted_simulation(reading.simulation(connection, checked(row)))
        parameters = reading.parameters(connection, [row])[row]
        failures = reading.failed_pairs(connection, summary)
        earlier = reading.failed_earlier(connection, summary)
        name = reading.result_name(connection, summary)
        working = reading.running_pairs(connection, summary)
        previews = reading.previews(connection, row)
        timeline = reading.events(connection, row, most=SHORT_TIMELINE)
    return {
        "summary": summary,
        "simulation": views.simulation_view(summary, parameters, now, services.stale_after_s, earlier, name),
        "failures": failures,
        "working": working,
        "previews": previews,
        "timeline": timeline,
        **_words(now, name),
    }


def _words(now: float, result_name: str = "") -> dict[str, Any]:
    return {
        "moment": lambda seconds: views.moment(seconds, now),
        "nm": views.nanometres,
        "duration": views.duration,
        "command": partial(views.rerun_command, result_name),
        "result_name": result_name,
        "link_with": _link_with,
    }


def _sections(names: tuple[str, ...], content: dict[str, Any]) -> dict[str, str]:
    return {name: render_template(f"_{name}.html", **content) for name in names}


def _link_of(wanted: reading.Filter) -> dict[str, Any]:
    """Query of the list as it is now, and of the pages beside it."""
    return {"previous": _link_with(page=wanted.page - 1), "next": _link_with(page=wanted.page + 1)}


def _link_with(**changes: Any) -> str:
    """Address of the list with some of the query changed; an empty value takes a key out."""
    known = [(name, value) for name, value in request.args.items(multi=True) if value and name not in changes]
    known = [pair for pair in known if pair[0] != "page"]
    query = urlencode([*known, *((name, value) for name, value in changes.items() if value)])
    return f"/?{query}" if query else "/"
