"""Read and check the query in the address of a request."""

from __future__ import annotations

from flask import request
from sqlalchemy import Connection

from stemphony.monitor.database import simulations
from stemphony.monitor.intake.incoming import Refused
from stemphony.monitor.intake.limits import MAX_INTEGER, MAX_NAME_CHARACTERS, MAX_TEXT_CHARACTERS
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import State

MAX_PAGE = 100_000
"""Largest number of a page of the list. 100,000 pages have 20 million simulations, more than a database of the monitor
can serve."""


def simulation_of_request(connection: Connection, row: int) -> SimulationSummary:
    """Return the simulation with this `row`. `connection` is an open transaction.

    Raises
    ------
    Refused
        With status 404, if there is no such simulation. Rows that PostgreSQL cannot hold are refused in the same way.
    """
    found = simulations.simulation(connection, row) if row <= MAX_INTEGER else None
    if found is None:
        raise Refused(404, "there is no such simulation.")
    return found


def number_of_request(name: str, most: int = MAX_INTEGER) -> int:
    """Return the whole number `name` of the query, or 0 if it is missing.

    Raises
    ------
    Refused
        With status 400, if it is not a whole number from 0 to `most`.
    """
    text = request.args.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= most):
        raise Refused(400, f"`{name}` must be a whole number from 0 to {most}.")
    return int(text)


def place_of_request(name: str) -> tuple[str, int] | None:
    """Return the pair `name` of the query, `DEFOCUS_KEY:CONFIGURATION`, or None if it is missing.

    Raises
    ------
    Refused
        With status 400, if it has another form.
    """
    text = request.args.get(name, "")
    if not text:
        return None
    key, _, number = text.rpartition(":")
    if len(key) > MAX_NAME_CHARACTERS or "\0" in key or not (number.isascii() and number.isdigit() and len(number) < 8):
        raise Refused(400, f"`{name}` must be the `next` of an earlier answer.")
    return key, int(number)


def flag_of_request(name: str) -> bool:
    """Return the flag `name` of the query: True for `1`, False for `0` or if it is missing.

    Raises
    ------
    Refused
        With status 400, for anything else.
    """
    text = request.args.get(name, "")
    if text not in ("", "0", "1"):
        raise Refused(400, f"`{name}` must be 0 or 1.")
    return text == "1"


def filter_of_request() -> simulations.Filter:
    """Return the filter of the query: `state`, `text`, `page`, and custom parameters as `p.NAME=VALUE`.

    Raises
    ------
    Refused
        With status 400, if a value is not allowed.
    """
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
        raise Refused(400, f"a filter has a zero character, or more than {MAX_TEXT_CHARACTERS} characters.")
    if len(parameters) > 10:
        raise Refused(400, "the filter has more than 10 parameters. Allowed: at most 10.")
    return simulations.Filter(state, texts[0].strip(), tuple(parameters), number_of_request("page", MAX_PAGE))
