"""The routes of pages: the list of simulations, one simulation, its events.

Each page is complete without its script. The script asks the `live` route of the page for changes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request

from stemphony.monitor.database import images, pairs, simulations, timeline
from stemphony.monitor.intake.incoming import Refused
from stemphony.monitor.intake.judgement import REASONS
from stemphony.monitor.intake.limits import MAX_INDEX, MAX_TEXT_CHARACTERS
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import State
from stemphony.monitor.web import tiles, views
from stemphony.monitor.web.bounds import EVENTS_BYTES, FAILURE_CHARACTERS, cut, fitting
from stemphony.monitor.web.png import gray_png, tiled
from stemphony.monitor.web.queries import filter_of_request, flag_of_request, number_of_request, simulation_of_request
from stemphony.monitor.web.responses import json_response
from stemphony.monitor.web.services import Services
from stemphony.monitor.words import nanometres, time_span

LIST_CHARACTERS: Final = 400_000
"""Longest list with custom parameters [characters]. A longer list is drawn without them. In JSON, each character takes
up to two bytes, and in links three."""

LIST_SECTIONS: Final = ("counts", "simulations")
"""Sections of the list that a page loads again by name."""
SIMULATION_SECTIONS: Final = ("summary", "previews", "failures", "working", "timeline")
"""Sections of the page of a simulation that it loads again by name."""
SHORT_TIMELINE: Final = 15
"""Most events on the page of a simulation. A link below them leads to all events."""


def blueprint(services: Services) -> Blueprint:
    """Return the routes of the pages of the monitor whose parts are `services`."""
    routes = Blueprint("pages", __name__)
    _add_list(routes, services)
    _add_simulation(routes, services)
    _add_details(routes, services)
    return routes


def _add_list(routes: Blueprint, services: Services) -> None:
    """Add the list of simulations and its changes."""

    @routes.get("/")
    def list_page() -> str:
        with services.database.reader.begin() as connection:
            choices = simulations.parameter_choices(connection)
        content = _list(services)
        page = render_template("simulations.html", choices=choices, parameter_label=views.parameter_label, **content)
        if len(page) > LIST_CHARACTERS:
            page = render_template("simulations.html", choices={}, **_without_parameters(content))
        return page

    @routes.get("/live")
    def list_changes() -> Response:
        content = _list(services)
        return json_response({"sections": _sections(LIST_SECTIONS, content)})


def _add_simulation(routes: Blueprint, services: Services) -> None:
    """Add the page of one simulation and its changes."""

    @routes.get("/simulations/<int:row>")
    def simulation_page(row: int) -> str:
        content = _one(services, row)
        with services.database.reader.begin() as connection:
            cells = pairs.cells(connection, content["summary"])
            grid = views.grid(content["summary"], pairs.defoci(connection, row), cells)
        return render_template("simulation.html", grid=grid, **content)

    @routes.get("/simulations/<int:row>/live")
    def simulation_changes(row: int) -> Response:
        """Return the changes after a revision. They include the whole grid only if its shape differs from the page."""
        since, shape = number_of_request("since"), request.args.get("shape", "")
        content = _one(services, row)
        summary: SimulationSummary = content["summary"]
        with services.database.reader.begin() as connection:
            defoci = pairs.defoci(connection, row)
            known = since if _is_same_run(summary) else 0
            changed = pairs.cells(connection, summary, known, most=views.MAX_CHANGED + 1)
            drawn = views.grid(summary, defoci, [])
            grid = {}
            if drawn.shape != shape or len(changed) > views.MAX_CHANGED:
                drawn = views.grid(summary, defoci, pairs.cells(connection, summary))
                grid = {"html": drawn.html, "shape": drawn.shape, "size": drawn.size}
        return json_response(
            {
                "revision": summary.revision,
                "run": f"{summary.run} {summary.ended}",
                "over": bool(summary.ended),
                "title": "{percent} % {title}".format(**content["simulation"]),
                "sections": _sections(SIMULATION_SECTIONS, content),
                "cells": [] if grid else changed,
                "grid": grid,
            }
        )


def _add_details(routes: Blueprint, services: Services) -> None:
    """Add the routes that the page of a simulation loads or links: a cell of the grid, a mean image, all events."""

    @routes.get("/simulations/<int:row>/cell")
    def cell_detail(row: int) -> str:
        key = _name_of_request("defocus")
        configuration = number_of_request("configuration", MAX_INDEX)
        with services.database.reader.begin() as connection:
            summary = simulation_of_request(connection, row)
            pair = pairs.pair(connection, summary, key, configuration)
            name = timeline.result_name(connection, summary)
        now = services.clock()
        return render_template("_cell.html", pair=pair, configuration=configuration, **_words(now, name))

    @routes.get("/simulations/<int:row>/preview.png")
    def preview_image(row: int) -> Response:
        """Return the mean image of a defocus and detector. If the image repeats, copies are beside it.

        The page adds a `revision` to the address, so that browsers load changes.
        """
        key, detector = _name_of_request("defocus"), _name_of_request("detector")
        with services.database.reader.begin() as connection:
            simulation_of_request(connection, row)
            image = images.mean_of(connection, row, key, detector)
        if image is None:
            raise Refused(404, "there is no such image.")
        gray = tiled(image.gray(), image.width, tiles.copies(image))
        return Response(gray_png(*gray), mimetype="image/png")

    @routes.get("/simulations/<int:row>/events")
    def events_page(row: int) -> str:
        before, all_of_them = number_of_request("before"), flag_of_request("all")
        with services.database.reader.begin() as connection:
            summary = simulation_of_request(connection, row)
            found = timeline.events(connection, row, before, all_of_them)
        now = services.clock()
        view = views.simulation_view(summary, {}, now, services.stale_after_s)
        sized = ((entry, 5 * len(entry.message) + 2000) for entry in found)
        shown = list(fitting(sized, EVENTS_BYTES))
        older = shown[-1].row if len(shown) < len(found) or len(found) == timeline.EVENTS_PER_PAGE else 0
        return render_template(
            "events.html", simulation=view, events=shown, older=older, before=before, all_of_them=all_of_them,
            **_words(now),
        )  # fmt: skip


def _name_of_request(of: str) -> str:
    name = request.args.get(of, "")
    if len(name) > MAX_TEXT_CHARACTERS or "\0" in name:
        raise Refused(400, f"`{of}` is not the name of a {of}.")
    return name


def _is_same_run(summary: SimulationSummary) -> bool:
    """Return whether the page shows the present run.

    When a run begins or ends, its running cells stop without an event.
    """
    return request.args.get("run", "") == f"{summary.run} {summary.ended}"


def _list(services: Services) -> dict[str, Any]:
    wanted, now = filter_of_request(), services.clock()
    with services.database.reader.begin() as connection:
        found = simulations.listed(connection, wanted, now, services.stale_after_s)
        parameters = simulations.parameters(connection, [entry.row for entry in found])
        counts = simulations.counts(connection, now, services.stale_after_s)
    return {
        "simulations": [
            views.simulation_view(entry, parameters[entry.row], now, services.stale_after_s, is_listed=True)
            for entry in found
        ],
        "counts": counts,
        "states": list(State),
        "total": sum(counts.values()),
        "wanted": wanted,
        "is_full": len(found) == simulations.PER_PAGE,
        "link": _links(wanted),
        "host": request.host_url,
        "is_open": services.gate.is_open,
        **_words(now),
    }


def _one(services: Services, row: int) -> dict[str, Any]:
    now = services.clock()
    with services.database.reader.begin() as connection:
        summary = simulation_of_request(connection, row)
        parameters = simulations.parameters(connection, [row])[row]
        failures = pairs.failed_pairs(connection, summary)
        earlier = pairs.failed_earlier(connection, summary)
        name = timeline.result_name(connection, summary)
        working = pairs.running_pairs(connection, summary)
        previews = images.listed(connection, row)
        conflicts = timeline.held_events(connection, summary)
        latest = timeline.events(connection, row, most=SHORT_TIMELINE)
    return {
        "summary": summary,
        "simulation": views.simulation_view(summary, parameters, now, services.stale_after_s, earlier, name),
        "failures": failures,
        "working": working,
        "previews": tiles.by_defocus(previews),
        "is_full": len(previews) == images.LISTED_IMAGES,
        "timeline": latest,
        "conflicts": conflicts,
        **_words(now, name),
    }


def _words(now: float, result_name: str = "") -> dict[str, Any]:
    return {
        "moment": lambda seconds: views.moment(seconds, now),
        "nm": nanometres,
        "time_span": time_span,
        "short": lambda text: cut(text, FAILURE_CHARACTERS),
        "reasons": REASONS,
        "command": partial(views.rerun_command, result_name),
        "result_name": result_name,
        "link_with": _link_with,
    }


def _sections(names: tuple[str, ...], content: dict[str, Any]) -> dict[str, str]:
    found = {name: render_template(f"_{name}.html", **content) for name in names}
    if "simulations" in names and sum(map(len, found.values())) > LIST_CHARACTERS:
        found["simulations"] = render_template("_simulations.html", **_without_parameters(content))
    return found


def _without_parameters(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a list without custom parameters, which senders can make long."""
    return {**content, "simulations": [{**view, "parameters": {}} for view in content["simulations"]]}


def _links(wanted: simulations.Filter) -> dict[str, Any]:
    """Return the addresses of the previous and the next page of the list."""
    return {"previous": _link_with(page=wanted.page - 1), "next": _link_with(page=wanted.page + 1)}


def _link_with(**changes: Any) -> str:
    """Return the address of the list with a changed query. An empty value removes a key."""
    known = [(name, value) for name, value in request.args.items(multi=True) if value and name not in changes]
    known = [pair for pair in known if pair[0] != "page"]
    query = urlencode([*known, *((name, value) for name, value in changes.items() if value)])
    return f"/?{query}" if query else "/"
