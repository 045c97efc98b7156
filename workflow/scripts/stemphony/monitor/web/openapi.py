"""The description of the API in OpenAPI 3.1. A test checks the monitor against it."""

from __future__ import annotations

from typing import Any

from stemphony.monitor.intake import limits
from stemphony.monitor.intake.judgement import Held
from stemphony.monitor.state import State
from stemphony.monitor.web.queries import MAX_PAGE
from stemphony.version import __version__


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": "#/components/schemas/" + name}


def _json(schema: dict[str, Any], what: str = "OK") -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


_ERROR = _json(_schema("Error"), "What is wrong")
_REFUSALS = {
    "400": _ERROR, "401": _ERROR, "403": _ERROR, "413": _ERROR, "415": _ERROR, "429": _ERROR, "503": _ERROR,
}  # fmt: skip
_READ_REFUSALS = {"400": _ERROR, "401": _ERROR, "403": _ERROR, "404": _ERROR, "429": _ERROR, "503": _ERROR}
_COUNT = {"type": "integer", "minimum": 0}
_ROW = {
    "name": "row",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": limits.MAX_INTEGER},
}
_PAGE = {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": MAX_PAGE}}
_BEFORE = {"name": "before", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": limits.MAX_INTEGER}}


_AFTER = {
    "name": "after",
    "in": "query",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,30}:[0-9]{1,7}$"},
    "description": "`next` of the answer before",
}


def _object(properties: dict[str, Any], open_ended: bool = False) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": open_ended,
    }


_NUMBER_OR_NULL = {"type": ["number", "null"]}
_NEXT_NUMBER = {"type": ["integer", "null"], "description": "`page` or `before` of the next answer; null: this is all"}
_TIME = {"type": "number", "description": "seconds since 1970"}

_EVENT = {
    "type": "object",
    "description": "One status event, see docs/status-api.md. Other keys are custom parameters.",
    "required": ["id", "event"],
    "maxProperties": limits.MAX_KEYS,
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": limits.MAX_NAME_CHARACTERS},
        "event": {"type": "string", "minLength": 1, "maxLength": limits.MAX_NAME_CHARACTERS},
        "time": {"type": "string"},
        "event_id": {"type": "string", "minLength": 1, "maxLength": limits.MAX_NAME_CHARACTERS},
        "run": {"type": "integer", "minimum": 0, "maximum": limits.MAX_INDEX},
        "job": {"type": "string"},
        "attempt": {"type": "integer", "minimum": 0, "maximum": limits.MAX_INTEGER},
        "seq": {"type": "integer", "minimum": 0, "maximum": limits.MAX_INTEGER},
        # The monitor accepts larger numbers, up to MAX_COUNT, if defoci × configurations are at most MAX_PAIRS. A
        # schema cannot limit a product, so it names numbers that are valid together.
        "num_threads": {"type": "integer", "minimum": 0, "maximum": 1000},
        "num_processors": {"type": "integer", "minimum": 0, "maximum": 1000},
        "num_defoci": {"type": "integer", "minimum": 0, "maximum": 1000},
        "num_configurations": {"type": "integer", "minimum": 0, "maximum": 1000},
        "num_failed": {"type": "integer", "minimum": 0, "maximum": limits.MAX_COUNT},
        "num_never_ran": {"type": "integer", "minimum": 0, "maximum": limits.MAX_COUNT},
        "num_jobs": {"type": "integer", "minimum": 0, "maximum": limits.MAX_COUNT},
        "defocus": {"type": "number", "minimum": -limits.MAX_DEFOCUS_NM, "maximum": limits.MAX_DEFOCUS_NM},
        "defocus_index": {"type": "integer", "minimum": 0, "maximum": limits.MAX_INDEX},
        "configuration_index": {"type": "integer", "minimum": 0, "maximum": limits.MAX_INDEX},
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "message": {"type": "string"},
        "title": {"type": "string"},
        "version": {"type": "string"},
        "git_commit": {"type": "string"},
        "result_name": {"type": "string"},
        "failed": {
            "type": "array",
            "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer", "minimum": 0}},
        },
    },
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}

_SIMULATION = _object(
    {
        "row": {"type": "integer"},
        "id": {"type": "string"},
        "title": {"type": "string"},
        "state": {"enum": [state.value for state in State]},
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "run": {"type": "integer"},
        "num_defoci": _COUNT,
        "num_configurations": _COUNT,
        "num_threads": _COUNT,
        "num_processors": _COUNT,
        "finished": _COUNT,
        "failed": _COUNT,
        "running": _COUNT,
        "num_never_ran": _COUNT,
        "run_started": _TIME,
        "last_received": _TIME,
        "ended_at": _NUMBER_OR_NULL,
        "message": {"type": "string"},
        "rate_per_s": _NUMBER_OR_NULL,
        "earliest_end_s": _NUMBER_OR_NULL,
        "latest_end_s": _NUMBER_OR_NULL,
        "version": {"type": "string"},
        "events": _COUNT,
        "revision": _COUNT,
        "owner": {"type": "string", "description": "the credential that sent START_SIMULATION"},
        "conflicts": {**_COUNT, "description": "events that are kept and not counted"},
        "parameters": {"type": "object", "additionalProperties": {"type": "string"}},
    }
)

_PAIR = _object(
    {
        "defocus_key": {"type": "string"},
        "defocus": _NUMBER_OR_NULL,
        "configuration": _COUNT,
        "state": {"enum": ["running", "stopped", "failed", "finished"]},
        "percent": {"type": "integer", "minimum": 0, "maximum": 100},
        "attempt": _COUNT,
    }
)

_STORED_EVENT = _object(
    {
        "row": {"type": "integer"},
        "received": _TIME,
        "sender": {"type": "string", "description": "the credential of its request"},
        "held": {"enum": ["", *Held], "description": "why it is kept and not counted; empty if it counts"},
        "event": {"type": "object", "description": "The event as sent, with secrets hidden"},
    }
)


_RECEIPT = _object({"stored": _COUNT, "duplicates": _COUNT})
_RECEIPT["properties"]["conflicts"] = {**_COUNT, "description": "stored events that are not counted"}


def description() -> dict[str, Any]:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stemphony monitor", "version": __version__},
        "paths": {**_paths_of_events(), **_paths_of_reading()},
        "components": {
            "schemas": {
                "Event": _EVENT,
                "Receipt": _RECEIPT,
                "Error": _object({"error": {"type": "string"}}),
                "Simulation": _SIMULATION,
            },
            "securitySchemes": {scheme: {"type": "http", "scheme": scheme} for scheme in ("basic", "bearer")},
        },
        "security": [{"basic": []}, {"bearer": []}, {}],
    }


def _paths_of_events() -> dict[str, Any]:
    receipt = _json(_schema("Receipt"))
    one = {
        "summary": "Store one event. The answer comes after the commit.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _schema("Event")}}},
        "responses": {"200": receipt, **_REFUSALS},
    }  # fmt: skip
    many = {"type": "array", "items": _schema("Event"), "maxItems": limits.MAX_BATCH_EVENTS}
    batch = {
        "summary": "Store many events, all or none. The answer comes after the commit.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": many}}},
        "responses": {"200": receipt, **_REFUSALS},
    }
    return {"/": {"post": one}, "/events": {"post": one}, "/events/batch": {"post": batch}}


def _reading(summary: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": _json(answer), **_READ_REFUSALS}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def _paths_of_reading() -> dict[str, Any]:
    many = {"type": "array", "items": _schema("Simulation")}
    states = {"name": "state", "in": "query", "schema": {"enum": [state.value for state in State]}}
    text = {"name": "text", "in": "query", "schema": {"type": "string", "maxLength": 200}}
    progress = {"name": "all", "in": "query", "schema": {"enum": ["0", "1"]}, "description": "1: with progress reports"}
    health = {"200": _json({"type": "object"}), "503": _json({"type": "object"})}
    return {
        "/api/simulations": _reading(
            "List simulations, those without an end first, then the latest",
            _object({"simulations": many, "next": _NEXT_NUMBER}), states, text, _PAGE,
        ),
        "/api/simulations/{row}": _reading("Return one simulation", _schema("Simulation"), _ROW),
        "/api/simulations/{row}/pairs": _reading(
            "List the pairs (defocus, configuration) that changed after a revision",
            _object(
                {"revision": _COUNT, "pairs": {"type": "array", "items": _PAIR}, "next": {"type": ["string", "null"]}}
            ),
            _ROW, {**_BEFORE, "name": "since"}, _AFTER,
        ),
        "/api/simulations/{row}/events": _reading(
            "List events in reverse order of arrival",
            _object({"events": {"type": "array", "items": _STORED_EVENT}, "next": _NEXT_NUMBER}),
            _ROW, _BEFORE, progress,
        ),
        "/healthz": {"get": {"summary": "Return whether the database takes events", "responses": health}},
    }  # fmt: skip
