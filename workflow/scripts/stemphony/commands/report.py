"""`stemphony report`: test the receiver of status reports, and send reports that were not delivered."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stemphony import paths
from stemphony.counting import number_of
from stemphony.errors import ConfigError, StemphonyError
from stemphony.paths import ResultPaths
from stemphony.status import delivery, stemsalabim
from stemphony.status import settings as status_settings
from stemphony.status.backlog import Own, foreign_in, foreign_in_words, has_own, left_in, runs_of, spools_of
from stemphony.status.courier import ANOTHER_SENDS, Courier
from stemphony.status.limits import LIMITS, Limits
from stemphony.status.reporter import trial_event
from stemphony.status.settings import ReportingSettings
from stemphony.status.transport import Answer, HttpTransport, Trouble, Verdict
from stemphony.store import members, own_runs, sharing

PROGRESS_S = 5.0
"""Shortest time between two lines of progress of `stemphony report replay` [s]. The sender delivers many events in this
time."""

ADVICE_ON_TROUBLE = {
    Trouble.NO_SUCH_HOST: "DNS does not know the host. Check the spelling of http_reporting.url. If only compute nodes "
    "do not see it, use via: submit_host.",
    Trouble.REFUSED: "Nothing listens at that port. Start the receiver, or correct http_reporting.url.",
    Trouble.UNREACHABLE: "There is no route to the host from here. Check network, VPN and firewall. If the submit host "
    "has a route, use via: submit_host.",
    Trouble.NO_CONNECTION: "Nothing answers at that address: the host is down, or a firewall drops the packets.",
    Trouble.CERTIFICATE: "It is expired, or for another host name, or from an authority that is not known here. For an "
    "authority of your own, give its certificates as http_reporting.ca_file. The check cannot be switched off.",
    Trouble.NO_TLS: "The server does not speak https at that port. Check http:// or https:// and the port.",
    Trouble.NO_HANDSHAKE: "A service listens there and does not begin to speak https: it knows only http://, or it "
    "hangs. Check http:// or https:// and the port.",
    Trouble.NO_ANSWER: "A service listens there and does not answer: a receiver that hangs, or another service. A run "
    "would continue, and keep its reports until the receiver answers.",
    Trouble.CLOSED: "A service listens there and closes the connection: it wants https, or it is not a web server.",
    Trouble.NOT_HTTP: "A service listens there that does not speak HTTP. Check the port.",
    Trouble.ENDLESS: "A service answers there with more headers than a receiver sends (over 100, or over 64 KiB in one "
    "header): a broken receiver, or another service. Check the port.",
    Trouble.SLOW: "The receiver takes an event but does not end its answer: it announces a body (Content-Length) that "
    "comes too slowly or never. A run waits for this after each event, so it cannot send all events in time. Correct "
    "the receiver; an empty body is enough.",
}
"""What the user can do if there was no answer, or no complete one."""
ADVICE_ON_STATUS = {
    401: "The receiver wants other credentials. Check auth_user and auth_pass_env (or auth_pass_file).",
    403: "The receiver knows these credentials and does not allow them to report. Use those of a writer.",
    404: "The receiver has no such path. Check the path of http_reporting.url.",
    405: "That path takes no POST. Check the path of http_reporting.url.",
    408: "The receiver found the request too slow. A run would try again.",
    429: "The receiver works, but takes no more events for the moment. A run would wait and try again.",
}
"""What the user can do after an answer of this status."""


def try_receiver(config: Path, say: Callable[[str], None], limits: Limits = LIMITS) -> int:
    """Send one event to the receiver of the file `config`, and say what happened.

    `say` prints one line. `limits` are the waits for the receiver. Return the exit status: 0 if the event arrived, else
    1.

    Raises
    ------
    ConfigError
        The block http_reporting is not valid, has the syntax of STEMsalabim, or names a password that is missing.
    """
    # If the file cannot be read, `status_settings.load` raises the error.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        stemsalabim.refuse(config, config.read_text(encoding="utf-8"))
    settings = status_settings.load([config], reporting=True)
    for warning in settings.warnings:
        say(f"note: {warning}")
    if not status_settings.load([config], reporting=None).reporting:
        say("note: http_reporting.reporting is false in this config: a run would send nothing.")
    _say_if_new(settings, say)
    say(f"sending one event, {_described(settings)}")
    transport = HttpTransport(settings, limits)
    began = time.monotonic()
    answer = transport.post(trial_event())
    took_ms = 1000 * (time.monotonic() - began)
    transport.close()
    if answer.verdict is Verdict.ARRIVED:
        own_runs.note_receiver(settings.address)
        say(f"ok: {answer.what} after {took_ms:.0f} ms. Runs with this config report there.")
        if answer.slow:
            say(f"note: {Trouble.SLOW}. {ADVICE_ON_TROUBLE[Trouble.SLOW]}")
        return 0
    say(f"failed after {took_ms:.0f} ms: {answer.what}. {advice_on(answer)}")
    return 1


def _described(settings: ReportingSettings) -> str:
    words = [f"to {settings.address}", "with basic auth" if settings.auth_user else "without credentials"]
    if settings.parameters:
        words.append(f"with {len(settings.parameters)} custom parameters")
    if settings.ca_file:
        words.append(f"trusting {settings.ca_file}")
    return ", ".join(words)


def _say_if_new(settings: ReportingSettings, say: Callable[[str], None]) -> None:
    if not own_runs.knows_receiver(settings.address):
        say(f"note: {settings.address} is new: you have sent no reports there before.")


def advice_on(answer: Answer) -> str:
    """Advice for the user about an `answer` that is not a success."""
    return advice_on_words(answer.what)


def advice_on_words(what: str) -> str:
    """Advice for the user about `what` went wrong: a `Trouble`, or a text such as `status 404`."""
    if what in ADVICE_ON_TROUBLE:
        return ADVICE_ON_TROUBLE[Trouble(what)]
    status = int(what.removeprefix("status ")) if what.removeprefix("status ").isdigit() else 0
    if status in ADVICE_ON_STATUS:
        return ADVICE_ON_STATUS[status]
    if 300 <= status < 400:
        return (
            "The receiver answers with a redirect to another address, and reports do not follow it. Give the other "
            "address as http_reporting.url (often https:// in place of http://, or a / at the end)."
        )
    if 400 <= status < 500:
        return "The receiver does not take this event. Its own log says why."
    if status >= 500:
        return "The receiver has an error of its own; its log says why. A run would try again."
    return "Check http_reporting.url and the receiver."


def replay(
    results: Sequence[Path],
    config: Path | None,
    say: Callable[[str], None],
    everything: bool = False,
    limits: Limits = LIMITS,
) -> int:
    """Send the events that runs could not deliver.

    Parameters
    ----------
    results : sequence of Path
        Folders of results. Default: all folders in `results` of the working directory.
    config : Path or None
        Config with url and credentials. Default: the config with which this user ran each simulation.
    say : callable
        Prints one line.
    everything : bool
        Send all events again, also those that a receiver accepted or refused permanently. This is useful for a new
        receiver, or after a receiver was corrected. Events of a process that is alive are left to that process.
    limits : Limits
        Waits for the receiver.

    Returns
    -------
    int
        0 if all events are delivered. 1 if some are left. Also 1 if a result could not be sent, because its config file
        is missing or not valid, or because its records of delivery cannot be changed. Other results are still sent.

    Raises
    ------
    StemphonyError
        A folder is not the folder of a result, or `config` is missing or not valid. Then nothing was sent.
    """
    found = [one for folder in results for one in _results_in(folder)] if results else _results_here()
    given = status_settings.load([config], reporting=True) if config is not None else None
    statuses = [0]
    # All settings are read before the first record of delivery is removed. If a record were removed and its events then
    # not sent, a later replay without --everything would send them a second time.
    ready: list[tuple[ResultPaths, ReportingSettings]] = []
    for result in found:
        for file, simulation_id in foreign_in(result, True, everything).items():
            say(foreign_in_words(result, file, simulation_id))
            statuses.append(1)
        if not (spools_of(result) if everything else left_in(result, True)):
            _say_that_nothing_is_left(result, say)
            continue
        try:
            _require_own_folder(result, everything)
            ready.append((result, given or _settings_of(result)))
        except StemphonyError as error:
            say(f"{result.root}: not sent. {error}")
            statuses.append(1)
    for result, settings in ready:
        sharing.follow(result.root)
        try:
            if everything:
                _forget(result)
            statuses.append(_replay(result, settings, say, limits))
        except StemphonyError as error:
            say(f"{result.root}: not sent. {error}")
            statuses.append(1)
    return max(statuses)


def _require_own_folder(result: ResultPaths, everything: bool) -> None:
    """Refuse a folder that would report in the name of a simulation that this user runs in another folder.

    The reports are sent with this user's credentials, and a folder from another person may have any id.
    """
    own, _ = own_runs.ids_of(result)
    ids = {own} if own else _named_in(result, everything)
    if len(ids) > 1:
        raise StemphonyError(
            f"it has no readable simulation.json, and its reports name {len(ids)} simulations. Restore that file."
        )
    for simulation_id in ids:
        if place := own_runs.other_place_of(simulation_id, result):
            raise StemphonyError(
                f"it has the same id as {place}, where you run this simulation, so it would report in its name. Send "
                f"the reports from {place}. If this folder is a copy that you want to continue, run it: the run gives "
                "it an id of its own."
            )


def _named_in(result: ResultPaths, everything: bool) -> set[str]:
    """Ids of the simulations that the undelivered events of a folder name. With `everything`, of all its events."""
    ids = set()
    for spool in spools_of(result):
        with contextlib.suppress(OSError):
            begin = 0 if everything else delivery.delivered_until(spool.path)
            events = (event for event, _ in delivery.read_events(spool.path, begin) if event is not None)
            ids |= {own_runs.same_form(event["id"]) for event in events if event.get("id") is not None}
    return ids


def _forget(result: ResultPaths) -> None:
    own = Own(result, with_original=True)
    for spool in spools_of(result):
        if not has_own(spool, own) or delivery.is_being_sent(spool.path):
            continue
        try:
            delivery.forget(spool.path)
        except OSError as error:
            raise StemphonyError(
                f"{spool.path.parent}: the records of delivery cannot be removed ({type(error).__name__}). "
                "Check the owner and mode of that folder."
            ) from None


def _results_in(folder: Path) -> list[ResultPaths]:
    """The simulation in a folder, or all members of the sweep in it."""
    return [part for part in members.all_members_of(folder) if part.reports.is_dir()] or [_result_in(folder)]


def _result_in(folder: Path) -> ResultPaths:
    root = folder.parent if folder.is_file() else folder
    result = ResultPaths(root)
    if not result.reports.is_dir():
        raise StemphonyError(
            f"{folder}: there are no status reports in it. Give the folder of a result: {paths.RESULTS}/<name>."
        )
    return result


def _results_here() -> list[ResultPaths]:
    base = Path(paths.RESULTS)
    found = [ResultPaths(reports.parent) for reports in sorted((*base.glob("*/reports"), *base.glob("*/*/reports")))]
    if not found:
        raise StemphonyError(
            f"there is no result with status reports in {Path(paths.RESULTS).resolve()}. Give one: "
            f"stemphony report replay RESULT."
        )
    return found


def _say_that_nothing_is_left(result: ResultPaths, say: Callable[[str], None]) -> None:
    say(f"{result.root}: nothing to send; all its reports of {number_of(len(runs_of(result)), 'run')} are delivered.")


def _replay(result: ResultPaths, settings: ReportingSettings, say: Callable[[str], None], limits: Limits) -> int:
    before = left_in(result, True)
    if not before:
        _say_that_nothing_is_left(result, say)
        return 0
    _say_if_new(settings, say)
    say(f"{result.root}: {number_of(before, 'report is', 'reports are')} left, {_described(settings)}")
    own_runs.note_receiver(settings.address)
    courier = Courier(result, settings, limits=limits, with_original=True)
    courier.start()
    complete = courier.drain(math.inf, tell=_every(PROGRESS_S, lambda: say(f"  {courier.arrived} delivered")))
    courier.stop()
    said = f"{result.root}: {courier.arrived} delivered"
    if courier.refused:
        said += (
            f", {courier.refused} refused permanently and kept in {result.reports} (after the receiver was corrected,"
            f" send them with: stemphony report replay --everything {shlex.quote(str(result.root))})"
        )
    behind = left_in(result, True) if complete and foreign_in(result, True) else 0
    if behind:
        say(f"{said}, {behind} left: they stand behind reports of another simulation that cannot be set apart.")
        return 1
    if complete:
        say(f"{said}. None is left.")
        return 0
    if courier.trouble == ANOTHER_SENDS:
        say(f"{said}. {ANOTHER_SENDS}: a run of this simulation that is alive, or another replay; it does the rest.")
        return 1
    say(f"{said}, {left_in(result, True)} left: {courier.trouble}. {advice_on_words(courier.trouble)}")
    return 1


def _settings_of(result: ResultPaths) -> ReportingSettings:
    """Url and credentials from the config files with which this user ran the simulation.

    The config files that the plan names are not used, because the plan may come from another person.
    """
    again = f"stemphony report replay --config FILE {shlex.quote(str(result.root))}"
    files = own_runs.config_files_of(result)
    if not files:
        raise StemphonyError(
            "there is no record that you ran this simulation. The address and password that its folder names may be "
            f"somebody else's, so they are not used. Give a config of yours: {again}."
        )
    try:
        return status_settings.load(files, reporting=True)
    except ConfigError as error:
        raise StemphonyError(f"{error} To take url and credentials from another file: {again}.") from None


def _every(seconds: float, act: Callable[[], None]) -> Callable[[], None]:
    """Make a function that calls `act` at most once in this time [s]."""
    last = time.monotonic()

    def call() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            act()

    return call
