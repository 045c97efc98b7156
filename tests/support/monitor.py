"""A monitor in a process of its own, and simulations that consist only of events."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest
from stemphony import paths
from stemphony.status.events import event_id_of

from support.evidence import last_part

REQUIRE_ALL = bool(os.environ.get("STEMPHONY_REQUIRE_ALL"))
"""Set by .ci/run: what is missing there is an error, not a reason to skip."""

PLENTY_S = 60.0


def missing(what: str) -> NoReturn:
    """Skip a test that this machine cannot run; fail it if STEMPHONY_REQUIRE_ALL is set."""
    if REQUIRE_ALL:
        pytest.fail(f"{what}, and STEMPHONY_REQUIRE_ALL is set")
    pytest.skip(what)


def program(name: str, *places: str) -> str:
    """Path of a program, or no test."""
    return (
        shutil.which(name) or next((p for p in places if Path(p).exists()), "") or missing(f"{name} is not installed")
    )


@dataclass
class Story:
    """Events of one simulation, as a Stemphony of version 0.1.0 sends them."""

    defoci: tuple[float, ...] = (-2.5, 0.0, 2.5)
    configurations: int = 4
    title: str = "SrTiO3 [001], 200 kV"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    run: int = 1
    processors: int = 2
    now: float = field(default_factory=time.time)
    hook_seq: int = 0
    previews: Sequence[Mapping[str, Any]] = ()
    result_name: str = "focal_series"
    """Empty: by a program that does not tell it yet."""

    def event(self, name: str, **keys: Any) -> dict[str, Any]:
        moment = datetime.fromtimestamp(self.now, UTC).isoformat(timespec="milliseconds")
        event = {
            "time": moment, "id": self.uid, "num_threads": 1, "num_processors": self.processors,
            "num_defoci": len(self.defoci), "num_configurations": self.configurations, "event": name, **keys,
            "schema": 1, "run": self.run,
        }  # fmt: skip
        event["event_id"] = event_id_of(event)
        return {**event, **self.parameters}

    def hook(self, name: str, **keys: Any) -> dict[str, Any]:
        self.hook_seq += 1
        return self.event(name, seq=self.hook_seq - 1, **keys)

    def start(self, **keys: Any) -> dict[str, Any]:
        name = {"result_name": self.result_name} if self.result_name else {}
        return self.hook("START_SIMULATION", version="0.1.0", git_commit="", title=self.title, **name, **keys)

    def finish(self) -> dict[str, Any]:
        return self.hook("FINISH")

    def failed(self, *pairs: tuple[int, int], never_ran: int = 0, message: str = "a job failed") -> dict[str, Any]:
        listed = [list(pair) for pair in pairs]
        return self.hook("FAILED", message=message, failed=listed, num_failed=len(pairs), num_never_ran=never_ran)

    def cancelled(self, never_ran: int = 0) -> dict[str, Any]:
        message = "cancelled by SIGINT"
        return self.hook("CANCELLED", message=message, failed=[], num_failed=0, num_never_ran=never_ran)

    def job(
        self, defocus: int, configuration: int, *percents: int, attempt: int = 1, end: str = "", step_s: float = 0.0
    ) -> list[dict[str, Any]]:
        """Events of one attempt: its start, the percents, and `finish`, the text of an error, or nothing."""
        value = self.defoci[defocus]
        name = paths.job_name(paths.defocus_id(value), configuration)
        pair = {"defocus": value, "defocus_index": defocus, "configuration_index": configuration}
        found = []

        def tell(event: str, **keys: Any) -> None:
            found.append(self.event(event, **pair, **keys, job=name, attempt=attempt, seq=len(found)))
            self.now += step_s

        tell("START_FP_CONFIGURATION")
        for percent in percents:
            tell("PROGRESS", progress=percent / 100)
        if end == "finish":
            for preview in self.previews:
                tell("PREVIEW", **preview)
            tell("FINISH_FP_CONFIGURATION")
        elif end:
            tell("ERROR", message=end)
        return found

    def done(self, defocus: int, configuration: int, attempt: int = 1, step_s: float = 0.0) -> list[dict[str, Any]]:
        """A job from its start to its end."""
        return self.job(defocus, configuration, 0, 50, 100, attempt=attempt, end="finish", step_s=step_s)

    def whole(self) -> list[dict[str, Any]]:
        """Events of a run without a failure."""
        jobs = [self.done(d, c) for d in range(len(self.defoci)) for c in range(self.configurations)]
        return [self.start(), *(event for job in jobs for event in job), self.finish()]


@dataclass(frozen=True)
class Reply:
    """What a monitor answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def evidence(self) -> str:
        return f"status {self.status}\n{last_part(self.body.decode(errors='replace'))}"


class MonitorProcess:
    """`stemphony monitor` on a free port of the loopback."""

    def __init__(
        self, folder: Path, *arguments: str, db: str | None = None, env: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.db = db or str(folder / "monitor.sqlite")
        self.log = folder / f"monitor-{uuid.uuid4().hex[:6]}.log"
        self._command = [
            sys.executable, "-m", "stemphony", "monitor", "--port", str(port), "--db", self.db, *arguments,
        ]  # fmt: skip
        self._env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "workflow" / "scripts"), **(env or {})}
        self.url = ""
        self.last: Reply | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=self._env
            )
        deadline = time.monotonic() + PLENTY_S
        while not (found := re.search(r"(http://\S+/) shows", self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.03)
        self.url = found[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def evidence(self) -> str:
        answered = self.last.evidence if self.last is not None else "none"
        return f"last answer: {answered}\n{self.log}:\n{last_part(self.said())}"

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PLENTY_S)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].strip("/"))

    def post(self, path: str, content: Any, headers: Mapping[str, str] | None = None) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self._ask(path, body, {"Content-Type": "application/json", **(headers or {})})

    def store(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Store events in batches, and check that the monitor stored them."""
        listed = list(events)
        for start in range(0, len(listed), 1000):
            reply = self.post("/events/batch", listed[start : start + 1000])
            assert reply.status == 200, reply.body

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self._ask(path, None, dict(headers or {}))

    def _ask(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        request = urllib.request.Request(self.url.rstrip("/") + path, data=body, headers=dict(headers))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PLENTY_S) as answer:
                self.last = Reply(answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()})
        except urllib.error.HTTPError as error:
            with error:
                self.last = Reply(error.code, error.read(), {k.lower(): v for k, v in error.headers.items()})
        return self.last
