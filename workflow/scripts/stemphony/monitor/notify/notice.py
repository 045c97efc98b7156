"""The content of a notification, as a webhook or a mail."""

from __future__ import annotations

import email.policy
import email.utils
import json
from collections import Counter
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Any, Final, Self

from stemphony.counting import number_of
from stemphony.monitor.database.outbox import URGENCY
from stemphony.monitor.notify.targets import Target
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import State, finished_of, pairs_of, progress_of
from stemphony.monitor.words import time_span
from stemphony.status.events import clean_text

DIGEST_NAMES: Final = 20
"""Most simulations that a message about many simulations names."""


@dataclass(frozen=True)
class Notice:
    """The facts of one notification, as they were when the event arrived.

    A delayed notification still describes the state at that time.

    Attributes
    ----------
    kind : str
        State that caused it, see `targets.KINDS`.
    title, uid, row, run, owner
        Title (or id), id, row, latest run and credential of the simulation.
    percent : int
        Finished part of the simulation [%].
    finished, total, num_failed : int
        Finished pairs, all pairs, and failed pairs.
    message : str
        Message at the end of the run, empty without one.
    silent_s : float
        Time since the last event [s].
    link : str
        Address of the page of the simulation, empty if the settings give no address of the monitor.
    """

    kind: str
    title: str
    uid: str
    row: int
    run: int
    percent: int
    finished: int
    total: int
    num_failed: int
    message: str
    silent_s: float
    link: str
    owner: str = ""

    @classmethod
    def of(cls, simulation: SimulationSummary, kind: str, page: str, now: float) -> Self:
        """Collect the facts about a `simulation` for a notification of this `kind`, see `targets.KINDS`.

        `page` is the address of the monitor, or empty. `now` is in seconds since 1970.
        """
        return cls(
            kind=kind,
            title=simulation.title or simulation.uid,
            uid=simulation.uid,
            row=simulation.row,
            run=simulation.run,
            percent=int(100 * progress_of(simulation) + 1e-9),
            finished=finished_of(simulation),
            total=pairs_of(simulation),
            num_failed=max(simulation.num_failed, simulation.failed),
            message=simulation.end_message,
            silent_s=round(max(0.0, now - simulation.last_received), 1),
            link=f"{page}/simulations/{simulation.row}" if page else "",
            owner=simulation.owner,
        )

    @property
    def headline(self) -> str:
        """What happened, in one line."""
        what = {
            State.FINISHED.value: "has finished",
            State.FAILED.value: f"has failed at {self.percent} %",
            State.CANCELLED.value: f"was cancelled at {self.percent} %",
            State.STALE.value: f"is stale at {self.percent} %: no event for {time_span(self.silent_s)}",
        }[self.kind]
        return f"{self.title} {what}"

    @property
    def details(self) -> str:
        """Numbers and the message of the run, in one line."""
        if self.kind == State.FINISHED:
            return f"{number_of(self.total, 'configuration')}, run {self.run}."
        verb = "is" if 1 in (self.finished, self.total) else "are"
        total = number_of(self.total, "configuration")
        parts = [f"{self.finished} of {total} {verb} finished, run {self.run}."]
        if self.num_failed:
            parts.append(f"{self.num_failed} failed.")
        if self.message:
            parts.append(f"{self.message}.")
        return " ".join(parts)

    @property
    def content(self) -> dict[str, Any]:
        """The JSON for a webhook."""
        hidden = {"uid", "row", "owner"}
        facts = {name: value for name, value in asdict(self).items() if name not in hidden}
        return facts | {"id": self.uid, "text": self.headline}


@dataclass(frozen=True)
class Digest:
    """Many notifications, `notices`, in one message. Those that need a reaction come first."""

    notices: tuple[Notice, ...]

    @property
    def headline(self) -> str:
        """One line with the number of simulations for each kind of notification."""
        counts = Counter(notice.kind for notice in self.notices)
        return f"{number_of(len(self.notices), 'simulation')}: " + ", ".join(
            f"{counts[kind]} {kind}" for kind in URGENCY if counts[kind]
        )

    @property
    def details(self) -> str:
        """One line for each of the most urgent notifications. If there are many, each sender has a few lines."""
        named = self._named()
        lines = [f"{notice.headline}." for notice in named]
        if len(named) < len(self.notices):
            left = number_of(len(self.notices) - len(named), "more is", "more are")
            lines.append(f"{left} on the page of the monitor.")
        return "\n".join(lines)

    def _named(self) -> list[Notice]:
        """Choose notices: for each kind, the first notice of each sender, then the second of each sender, and so on."""
        ordered: list[tuple[int, int, int]] = []
        seen: Counter[tuple[str, str]] = Counter()
        for number, notice in enumerate(self.notices):
            turn = seen[notice.kind, notice.owner]
            seen[notice.kind, notice.owner] += 1
            ordered.append((URGENCY.index(notice.kind), turn, number))
        return [self.notices[number] for _, _, number in sorted(ordered)[:DIGEST_NAMES]]

    @property
    def link(self) -> str:
        """The address of the list."""
        return self.notices[0].link.partition("/simulations/")[0]

    @property
    def uid(self) -> str:
        """Ids of the named simulations."""
        return ", ".join(notice.uid for notice in self._named())

    @property
    def content(self) -> dict[str, Any]:
        """The JSON for a webhook."""
        return {
            "kind": "digest",
            "text": self.headline,
            "link": self.link,
            "number": len(self.notices),
            "notices": [notice.content for notice in self._named()],
        }


Message = Notice | Digest
"""The content of one message: one notice, or many."""


def body_for(target: Target, notice: Message) -> bytes:
    """Return the JSON of a `notice` for the webhook of a `target`, in the format of the target.

    Other users write the titles. Escapes keep a title from mentioning people in a chat or becoming a link.
    """
    if target.format == "json":
        content: dict[str, Any] = notice.content
    else:
        escape = _slack if target.format == "slack" else _mattermost
        text = f"{escape(notice.headline)}\n{escape(notice.details)}"
        if notice.link:
            text += f"\n<{notice.link}>"
        content = {"text": text}
        if target.format == "slack":
            content["unfurl_links"] = False
    return json.dumps(content).encode("ascii")


def _slack(text: str) -> str:
    # Slack also turns bare addresses into links. A word joiner after the colon prevents that.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":\u2060//")


def _mattermost(text: str) -> str:
    # A word joiner after @ keeps @all and @channel from mentioning people. The other characters are Markdown.
    escaped = "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+!|~<>" else letter for letter in text)
    return escaped.replace("@", "@\u2060").replace("://", ":\u2060//")


def mail_for(target: Target, notice: Message) -> EmailMessage:
    """Return the mail with a `notice` to a `target`, in plain text."""
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = f"[Stemphony] {clean_text(notice.headline)}"[:200]
    mail["From"], mail["To"] = target.sender, ", ".join(target.recipients)
    mail["Date"] = email.utils.localtime()
    mail["Message-ID"] = email.utils.make_msgid(domain="stemphony.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    lines = [notice.headline, notice.details, notice.link, f"id {notice.uid}"]
    mail.set_content("\n".join(line for line in lines if line) + "\n")
    return mail
