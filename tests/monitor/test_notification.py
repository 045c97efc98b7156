"""Which target gets which notification, with real local servers of HTTP and SMTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any, Self

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from stemphony.errors import MonitorError
from stemphony.monitor.database import outbox, schema
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.incoming import read_batch, read_event
from stemphony.monitor.intake.writer import LIMITS, Writer, WriterLimits
from stemphony.monitor.notify.delivery import DeliveryResult, NextStep, deliver
from stemphony.monitor.notify.exchange import Exchange
from stemphony.monitor.notify.notice import Notice, body_for, mail_for
from stemphony.monitor.notify.notifier import CHECK_S, Notifier
from stemphony.monitor.notify.targets import MAX_TARGETS, Target, TargetSettings
from support.campaign import wait_for
from support.monitor import MonitorProcess, Story
from support.status_server import FaultServer, closed_port

NOTICE = Notice(
    kind="failed", title="<!channel> & @all [x](http://evil.example)", uid="u", row=3, run=2, percent=40, finished=4,
    total=10, num_failed=2, message="a job failed", silent_s=1.0, link="http://monitor.example/simulations/3",
)  # fmt: skip


class Mailbox:
    """Keeps the mails that it is given."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], Message]] = []
        self.answers: dict[str, str] = {}

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return self.answers.get("DATA", "250 taken")

    async def handle_QUIT(self, _server: Any, _session: Any, _envelope: Any) -> str:
        return self.answers.get("QUIT", "221 Bye")


def right_password(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    return AuthResult(handled=False, success=given == LoginPassword(b"monitor", b"canary-secret"))


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), closed_port()
    server = Controller(box, hostname="127.0.0.1", port=port, authenticator=right_password, auth_require_tls=False)
    server.start()
    yield box, port
    server.stop()


def tell(target: Target, patience_s: float = 30.0) -> DeliveryResult:
    with Exchange(patience_s) as exchange:
        return deliver(target, NOTICE, exchange)


def again(what: str) -> DeliveryResult:
    return DeliveryResult(NextStep.RETRY, what)


def mail_target(port: int, *recipients: str, **others: Any) -> Target:
    keys = {"user": "monitor", "password": "canary-secret", "security": "none", **others}
    return Target(
        "m", "email", frozenset(), host="127.0.0.1", port=port, sender="a@b", recipients=recipients or ("c@d",), **keys
    )


@pytest.fixture
def settings_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "notify.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_a_monitor_notifies_targets_of_all_kinds(
    tmp_path: Path, mailbox: tuple[Mailbox, int], settings_file: Callable[[str], Path]
):
    """One simulation finishes, one fails, one falls silent; each target gets what it asked for, once."""
    box, port = mailbox
    with FaultServer("ok") as plain, FaultServer("ok") as slack, FaultServer("500", "ok") as mattermost:
        file = settings_file(
            f"""
page: https://monitor.example/
targets:
  - {{name: program, format: json, url: "{plain.url}hook?key=1"}}
  - {{name: group, format: slack, url_env: SLACK_HOOK, when: [failed]}}
  - {{name: other, format: mattermost, url: "{mattermost.url}", when: [finished]}}
  - name: mail
    format: email
    host: 127.0.0.1
    port: {port}
    security: none
    user: monitor
    password_env: MAIL_PASSWORD
    from: monitor@example.org
    to: [ada@example.org, lin@example.org]
    when: [finished, failed, stale]
"""
        )
        env = {"SLACK_HOOK": slack.url, "MAIL_PASSWORD": "canary-secret"}
        arguments = ["--notify", str(file), "--stale-after", "0.03"]
        with MonitorProcess(tmp_path, *arguments, env=env) as monitor:
            good, bad, silent = Story(title="Good"), Story(title="Bad"), Story(title="Silent")
            monitor.store(
                [silent.start(), *silent.job(0, 0, 0, 30), *good.whole(), bad.start(), bad.failed((0, 0), never_ran=3)]
            )
            monitor.store(good.whole())
            wait_for(lambda: len(box.mails) >= 3, "three mails")
            wait_for(lambda: len(plain.received) >= 3, "three requests")
            wait_for(lambda: len(mattermost.received) >= 2, "the second try")
            time.sleep(CHECK_S + 1.0)  # a second notice would come with the next search
            assert "canary" not in monitor.said()
            assert "notification 'other': status 500; it is tried again" in monitor.said()
            assert slack.url not in monitor.said()
        assert sorted(entry.json["kind"] for entry in plain.received) == ["failed", "finished", "stale"]
        assert {entry.path for entry in plain.received} == {"/hook?key=1"}
        (only,) = slack.received
        assert only.json["text"].startswith(
            "Bad has failed at 0 %\n0 of 12 configurations are finished, run 1. 1 failed."
        )
        assert only.json["text"].endswith("<https://monitor.example/simulations/3>")
        assert {entry.json["text"].splitlines()[0] for entry in mattermost.received} == {"Good has finished"}
        subjects = sorted(str(mail["Subject"]) for _, _, mail in box.mails)
        assert subjects[:2] == ["[Stemphony] Bad has failed at 0 %", "[Stemphony] Good has finished"]
        assert subjects[2].startswith("[Stemphony] Silent is stale at 2 %: no event for")
        assert {(sender, tuple(to)) for sender, to, _ in box.mails} == {
            ("monitor@example.org", ("ada@example.org", "lin@example.org"))
        }
        assert "https://monitor.example/simulations/2" in box.mails[0][2].get_content() + box.mails[1][2].get_content()


def test_a_crash_loses_no_notification_and_repeats_none(tmp_path: Path):
    """The end is stored while the target is away. Another monitor on the same database sends it, once."""
    target = Target("t", "json", frozenset({"finished"}), url="http://127.0.0.1:1/")
    story, told = Story(), []

    def run(start: bool) -> None:
        with Database.open(str(tmp_path / "m.sqlite")) as database:

            def tell(_target: Target, notice: Notice, _exchange: Exchange) -> DeliveryResult:
                told.append(notice.title)
                return DeliveryResult(NextStep.DONE)

            notifier = Notifier(TargetSettings((target,)), database, lambda _: None, send=tell)
            writer = Writer(database, notifier.rows)
            writer.store(read_batch(json.dumps(story.whole()).encode(), time.time()))
            if start:
                notifier.start(writer)
                time.sleep(0.5)
            notifier.close()
            writer.close()

    run(start=False)
    assert told == []
    run(start=True)
    assert told == [story.title]
    run(start=True)
    assert told == [story.title]


def test_a_new_target_gets_no_notice_of_an_old_silence(tmp_path: Path):
    """Three runs without an end: one silent for a week, one for an hour, and one that has just reported."""
    told: list[str] = []

    def tell(_target: Target, notice: Notice, _exchange: Exchange) -> DeliveryResult:
        told.append(notice.title)
        return DeliveryResult(NextStep.DONE)

    target = Target("t", "json", frozenset({"stale"}), url="http://127.0.0.1:1/")
    with Database.open(str(tmp_path / "m.sqlite")) as database:
        notifier = Notifier(TargetSettings((target,)), database, lambda _: None, send=tell)
        writer = Writer(database, notifier.rows)
        for title, ago_s in (("old", 7 * 86_400.0), ("silent", 3600.0), ("new", 0.0)):
            story = Story(title=title, now=time.time() - ago_s)
            writer.store([read_event(json.dumps(story.start()).encode(), time.time() - ago_s)])
        notifier.start(writer)
        wait_for(lambda: told, "a notification")
        notifier.close()
        writer.close()
    assert told == ["silent"]


class Notified:
    """A monitor's writer and notifier with one target that keeps what it receives."""

    def __init__(
        self,
        database: Database,
        *kinds: str,
        answer: NextStep = NextStep.DONE,
        check_s: float = CHECK_S,
        limits: WriterLimits = LIMITS,
    ) -> None:
        self.told: list[Notice] = []
        self.answer = answer
        self.database = database
        target = Target("t", "json", frozenset(kinds), url="http://127.0.0.1:1/")
        self.notifier = Notifier(TargetSettings((target,)), database, lambda _: None, send=self._tell, check_s=check_s)
        self.writer = Writer(database, self.notifier.rows, noted=self.notifier.wake, limits=limits)

    def __enter__(self) -> Self:
        self.notifier.start(self.writer)
        return self

    def __exit__(self, *_: object) -> None:
        self.notifier.close()
        self.writer.close()

    def _tell(self, _target: Target, notice: Notice, _exchange: Exchange) -> DeliveryResult:
        self.told.append(notice)
        return DeliveryResult(self.answer, "" if self.answer is NextStep.DONE else "away")

    def store(self, *events: dict[str, Any], ago_s: float = 0.0) -> None:
        self.writer.store(read_batch(json.dumps(events).encode(), time.time() - ago_s))

    def settle(self) -> None:
        """Wait until nothing is due."""
        wait_for(lambda: self._waiting() == 0, "all that is due")

    def _waiting(self) -> int:
        with self.database.reader.begin() as connection:
            return outbox.waiting(connection)


def original(event: str, second: int) -> dict[str, Any]:
    """An event of STEMsalabim, which counts no runs."""
    common = {"id": "an id", "num_threads": 4, "num_processors": 2, "num_defoci": 1, "num_configurations": 2}
    return {"time": f"2026-03-01 10:00:{second:02d}", **common, "event": event, "title": "t"}


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_each_end_of_each_run_of_stemsalabim_is_notified_once(any_database: str, in_one_batch: bool):
    """Three runs with one id. Every event arrives twice, and a late end once more."""
    events = [original(name, 10 * n + m) for n in range(3) for m, name in enumerate(("START_SIMULATION", "FINISH"), 1)]
    with Database.open(any_database) as database, Notified(database, "finished") as notified:
        for part in [events] if in_one_batch else [[event] for event in events]:
            notified.store(*part)
            # Otherwise the next end could replace this one before it is sent.
            notified.settle()
        for event in [*events, original("FINISH", 20)]:
            notified.store(event)
        notified.settle()
        # Of several notifications that are due for one simulation, the latest is sent.
        runs = (3,) if in_one_batch else (1, 2, 3)
        assert [(notice.kind, notice.run) for notice in notified.told] == [("finished", run) for run in runs]


def test_a_delayed_notification_describes_the_state_when_the_event_occurred(tmp_path: Path):
    """A run fails while the target is away; the next one runs when it is back."""
    with Database.open(str(tmp_path / "m.sqlite")) as database:
        story = Story()
        with Notified(database, "failed", answer=NextStep.RETRY) as notified:
            notified.store(story.start(), *story.done(0, 0), story.failed((0, 1)))
            wait_for(lambda: notified.told, "the first try")
        with database.writer.begin() as connection:
            connection.execute(schema.NOTIFICATION.update().values(due=0.0))
        story.run, story.hook_seq = 2, 0
        with Notified(database, "failed") as notified:
            notified.store(story.start(), *(event for c in (1, 2, 3) for event in story.done(0, c, attempt=2)))
            notified.settle()
        (notice,) = notified.told
        assert (notice.run, notice.finished, notice.percent, notice.message) == (1, 1, 8, "a job failed")


def test_a_notification_is_sent_after_it_is_on_the_disk(tmp_path: Path):
    """It does not wait for the next search."""
    with Database.open(str(tmp_path / "m.sqlite")) as database, Notified(database, "finished", check_s=600) as notified:
        # The thread waits now: it has sent the first notification.
        for number in (1, 2, 3):
            notified.store(*Story().whole())
            wait_for(lambda number=number: len(notified.told) == number, "a notification")


def test_a_run_that_falls_silent_again_is_notified_again_but_not_all_day(any_database: str):
    story = Story()
    now = time.time()

    def found(ago_s: float) -> None:
        """The age of the silences that are notified."""
        with database.writer.begin() as connection:
            connection.execute(schema.NOTIFICATION.update().values(created=now - ago_s))

    with Database.open(any_database) as database:

        def silent_since(ago_s: float, *events: dict[str, Any]) -> list[str]:
            with Notified(database, "stale", check_s=0.1) as notified:
                notified.store(*events, ago_s=ago_s)
                time.sleep(0.5)
                notified.settle()
            return [notice.kind for notice in notified.told]

        hour = 3600.0
        assert silent_since(9 * hour, story.start()) == ["stale"]
        assert silent_since(9 * hour) == []
        found(ago_s=8 * hour)
        assert silent_since(8.5 * hour, story.hook("SIGN_OF_LIFE")) == [], "it has not gone on since"
        found(ago_s=5 * hour)
        assert silent_since(1 * hour, story.hook("SIGN_OF_LIFE")) == [], "once in six hours"
        found(ago_s=7 * hour)
        assert silent_since(1 * hour) == ["stale"]
        found(ago_s=2 * hour)
        story.run += 1
        assert silent_since(1 * hour, story.start()) == ["stale"], "another run"


@pytest.mark.parametrize(
    ("mode", "trouble"),
    [("ok", ""), ("500", "status 500"), ("302", "status 302"), ("404", "status 404"), ("garbage", "BadStatusLine")],
)
def test_the_status_of_a_webhook_decides_whether_it_is_tried_again(mode: str, trouble: str):
    with FaultServer(mode, headers=["Location: /elsewhere"]) as server:
        outcome = tell(Target("t", "json", frozenset(), url=f"{server.url}hook?secret"))
        assert outcome == (again(trouble) if trouble else DeliveryResult(NextStep.DONE))
        assert [(entry.method, entry.path) for entry in server.received] == [("POST", "/hook?secret")]
        assert server.received[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_an_absent_webhook_and_a_wrong_password_are_named(mailbox: tuple[Mailbox, int]):
    away = Target("t", "json", frozenset(), url=f"http://127.0.0.1:{closed_port()}/")
    assert tell(away) == again("ConnectionRefusedError")
    _, port = mailbox
    assert tell(mail_target(port, password="wrong")) == again("SMTPAuthenticationError 535")
    # If the settings ask for TLS, a server without TLS never sees the password.
    assert tell(mail_target(port, security="starttls")) == again("SMTPNotSupportedError")


def test_a_refused_recipient_is_named_and_the_others_get_the_mail_once(
    tmp_path: Path, mailbox: tuple[Mailbox, int], settings_file: Callable[[str], Path]
):
    box, port = mailbox
    box.answers = {"eve@example.org": "550 5.1.1 no such user"}
    file = settings_file(
        f"targets: [{{name: mail, format: email, host: 127.0.0.1, port: {port}, security: none, from: m@example.org,"
        " to: [ada@example.org, eve@example.org, lin@example.org]}]"
    )
    with MonitorProcess(tmp_path, "--notify", str(file)) as monitor:
        monitor.store(Story(title="Good").whole())
        wait_for(lambda: "refuses" in monitor.said(), "the line that names the refused one")
        wait_for(lambda: "stemphony_monitor_notifications_waiting 0\n" in monitor.get("/metrics").text, "nothing due")
        assert (
            "notification 'mail': the mail server refuses eve@example.org (550 5.1.1 no such user); all others have the"
            " mail" in monitor.said()
        )
        assert "tried again" not in monitor.said()
    assert [to for _, to, _ in box.mails] == [["ada@example.org", "lin@example.org"]]


def test_a_mail_that_is_refused_permanently_is_given_up_with_a_message(
    tmp_path: Path, mailbox: tuple[Mailbox, int], settings_file: Callable[[str], Path]
):
    box, port = mailbox
    box.answers = {"eve@example.org": "550 no such user"}
    file = settings_file(
        f"targets: [{{name: mail, format: email, host: 127.0.0.1, port: {port}, security: none, from: m@example.org,"
        " to: eve@example.org}]"
    )
    with MonitorProcess(tmp_path, "--notify", str(file)) as monitor:
        monitor.store(Story().whole())
        line = "notification 'mail': the mail server refuses eve@example.org (550 no such user); it is not tried again"
        wait_for(lambda: line in monitor.said(), "the line that says so")
        wait_for(lambda: "stemphony_monitor_notifications_waiting 0\n" in monitor.get("/metrics").text, "nothing due")
    assert not box.mails


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({"x@y": "550 no"}, DeliveryResult(NextStep.DONE, "the mail server refuses x@y (550 no)")),
        ({"x@y": "450 later"}, DeliveryResult(NextStep.DONE, "the mail server refuses x@y (450 later)")),
        (
            {"c@d": "550 no", "x@y": "553 no"},
            DeliveryResult(NextStep.GIVE_UP, "the mail server refuses c@d (550 no), x@y (553 no)"),
        ),
        ({"c@d": "550 no", "x@y": "450 later"}, again("the mail server refuses c@d (550 no), x@y (450 later)")),
        ({"c@d": "550 no", "x@y": "421 busy"}, again("the mail server refuses c@d (550 no), x@y (421 busy)")),
        ({"MAIL": "550 not you"}, DeliveryResult(NextStep.GIVE_UP, "the mail is refused: 550 not you")),
        ({"MAIL": "451 later"}, again("the mail is refused: 451 later")),
        ({"DATA": "554 spam"}, DeliveryResult(NextStep.GIVE_UP, "the mail is refused: 554 spam")),
        ({"DATA": "452 full"}, again("the mail is refused: 452 full")),
        ({"QUIT": "500 what?"}, DeliveryResult(NextStep.DONE)),
    ],
)
def test_the_answer_of_a_mail_server_decides_whether_it_is_tried_again(
    mailbox: tuple[Mailbox, int], answers: dict[str, str], outcome: DeliveryResult
):
    box, port = mailbox
    box.answers = answers
    # One address twice counts once.
    assert tell(mail_target(port, "c@d", "x@y", "c@d")) == outcome


def test_some_of_many_refused_recipients_are_named(mailbox: tuple[Mailbox, int]):
    box, port = mailbox
    everybody = [f"p{number}@example.org" for number in range(9)]
    box.answers = dict.fromkeys(everybody[1:], "550 " + 400 * "x")
    said = tell(mail_target(port, *everybody)).trouble
    assert said.count("@") == 5
    assert said.endswith(" and 3 more")
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("finished", "total", "words"),
    [
        (0, 12, "0 of 12 configurations are finished, run 1."),
        (1, 12, "1 of 12 configurations is finished, run 1."),
        (0, 1, "0 of 1 configuration is finished, run 1."),
    ],
)
def test_a_notification_counts_in_singular_or_plural(finished: int, total: int, words: str):
    assert replace(NOTICE, kind="failed", finished=finished, total=total, run=1).details.startswith(words)
    assert replace(NOTICE, kind="finished", total=1, run=1).details == "1 configuration, run 1."


def test_titles_in_notifications_make_no_mentions_and_no_links():
    slack = json.loads(body_for(Target("t", "slack", frozenset()), NOTICE))["text"]
    assert "<!channel>" not in slack
    assert "&lt;!channel&gt; &amp;" in slack
    assert "http://evil" not in slack
    assert f"<{NOTICE.link}>" in slack
    mattermost = json.loads(body_for(Target("t", "mattermost", frozenset()), NOTICE))["text"]
    assert "@all" not in mattermost
    assert "](http" not in mattermost
    mail = mail_for(Target("m", "email", frozenset(), sender="a@b", recipients=("c@d",)), NOTICE)
    assert "\n" not in str(mail["Subject"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("[]", "must have a list `targets`"),
        ("targets: [{format: sms}]", "`format` is 'sms'"),
        ("targets: [{url: 'ftp://x'}]", "give the address"),
        ("targets: [{url: 'http://user:secret@x/'}]", "without a user name in it"),
        ("targets: [{url: 'http://x:port/'}]", "give the address"),
        (f"targets: [{', '.join(['{}'] * (MAX_TARGETS + 1))}]", "has 51 entries. Allowed: at most 50"),
        ("targets: [{urls: x}]", "no key 'urls'"),
        ("targets: [{url: 'http://x', when: [started]}]", "`when` is"),
        ("targets: [{url_env: NOT_SET_ANYWHERE}]", "is not set or is empty"),
        ("targets: [{format: email, host: h, from: a@b}]", "`to` must be"),
        ("targets: [{format: email, to: a@b, from: a@b}]", "`host` is missing"),
        ("targets: [{format: email, to: a@b, from: a@b, host: h, port: x}]", "`port` must be"),
        ("targets: [{format: email, to: a@b, from: a@b, host: h, security: ssl}]", "`security` is 'ssl'"),
        ("targets: [{url: 'http://x'}, {url: 'http://y'}]", "two targets have the same name"),
        ("{targets: [], page: x}", "`page` must be"),
        ("{targets: [], pages: x}", "no key 'pages'"),
    ],
)
def test_a_mistake_in_the_settings_file_is_named(settings_file: Callable[[str], Path], text: str, words: str):
    with pytest.raises(MonitorError) as found:
        TargetSettings.read(settings_file(text), {})
    assert words in str(found.value)
