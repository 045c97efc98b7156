"""`stemphony report`: its messages for each kind of receiver, and the events that it sends."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import time
import uuid
from pathlib import Path

import pytest
from stemphony import cli
from stemphony.commands import report
from stemphony.paths import ResultPaths
from stemphony.status import delivery
from stemphony.status.backlog import left_in
from stemphony.status.limits import Limits
from stemphony.status.spool import Spool, spool_file_of
from stemphony.status.transport import Trouble, trouble_of
from stemphony.store import ledger, own_runs
from stemphony.store.copies import settle_identity
from support.status_server import EchoServer, FaultServer, closed_port

CANARY = "CANARY-7f3a"


def config_for(folder: Path, url: str, **block) -> Path:
    file = folder / "config.yaml"
    file.write_text(json.dumps({"http_reporting": {"reporting": True, "url": url, **block}}))
    return file


def run(capsys, *arguments: str | Path) -> tuple[int, str]:
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return status, captured.out + captured.err


IMPATIENT = Limits(connect_s=0.5, read_s=0.5, answer_s=0.7, quiet_s=0.5)


def ask(config: Path) -> tuple[int, str]:
    """Run `stemphony report test` with short waits; return its status and its output."""
    said: list[str] = []
    status = report.try_receiver(config, said.append, IMPATIENT)
    return status, "\n".join(said)


# report test


def test_a_receiver_that_accepts_the_event_is_reported(tmp_path, capsys):
    with FaultServer("ok") as server:
        config = config_for(tmp_path, server.url, auth_user="u", auth_pass=CANARY, parameters={"token": CANARY})
        status, said = run(capsys, "report", "test", config)
        (event,) = [entry.json for entry in server.received]
    assert status == 0, said
    assert "ok: status 200" in said
    assert CANARY not in said
    assert event["event"] == "TEST"
    assert event["id"] == "00000000-0000-0000-0000-000000000000"
    assert event["token"] == CANARY


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("401", "status 401. The receiver wants other credentials"),
        ("403", "status 403. The receiver knows these credentials"),
        ("404", "status 404. The receiver has no such path"),
        ("302", "status 302. The receiver answers with a redirect"),
        ("422", "status 422. The receiver does not take this event"),
        ("429", "status 429. The receiver works, but takes no more events"),
        ("500", "status 500. The receiver has an error of its own"),
        ("stores-then-fails", "connection closed without an answer. A service listens there and closes the connection"),
        ("garbage", "answer is not HTTP. A service listens there that does not speak HTTP"),
        ("endless-headers", "headers of the answer do not end. A service answers there with more headers"),
        ("endless-header", "headers of the answer do not end. A service answers there with more headers"),
        ("hang", "no answer in time. A service listens there and does not answer"),
        ("drip", "no answer in time. A service listens there and does not answer"),
    ],
)
def test_a_receiver_that_refuses_the_event_is_named(tmp_path, mode, words):
    with FaultServer(mode) as server:
        status, said = ask(config_for(tmp_path, f"{server.url}{CANARY}?q={CANARY}"))
        assert len(server.received) == 1
    assert status == 1, said
    assert f": {words}" in said
    assert CANARY not in said


def test_an_endless_answer_is_named(tmp_path):
    with FaultServer("drip-body") as server:
        status, said = ask(config_for(tmp_path, server.url))
    assert status == 0, said
    assert "ok: status 200" in said
    assert "note: answer too slow. The receiver takes an event but does not end its answer" in said


def test_a_closed_port_is_named(tmp_path, capsys):
    status, said = run(capsys, "report", "test", config_for(tmp_path, f"http://127.0.0.1:{closed_port()}/"))
    assert status == 1, said
    assert "connection refused. Nothing listens at that port." in said


def test_an_unknown_host_is_named(tmp_path, capsys, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    status, said = run(capsys, "report", "test", config_for(tmp_path, "http://nowhere.invalid/"))
    assert status == 1, said
    assert "no such host. DNS does not know the host." in said


@pytest.mark.parametrize(("code", "words"), [(113, "host not reachable"), (101, "host not reachable")])
def test_a_host_without_a_route_is_named(tmp_path, capsys, monkeypatch, code, words):
    def connect(self, address):
        raise OSError(code, "No route to host")

    monkeypatch.setattr(socket.socket, "connect", connect)
    status, said = run(capsys, "report", "test", config_for(tmp_path, "http://127.0.0.1:1/"))
    assert status == 1, said
    assert words in said


def test_a_timeout_of_the_connection_is_named(tmp_path, capsys, monkeypatch):
    def connect(self, address):
        time.sleep(0.01)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket.socket, "connect", connect)
    status, said = run(capsys, "report", "test", config_for(tmp_path, "http://127.0.0.1:1/"))
    assert status == 1, said
    assert "no connection in time. Nothing answers at that address" in said


def test_https_at_a_plain_http_server_is_named(tmp_path, capsys):
    with FaultServer("ok") as server:
        config = config_for(tmp_path, server.url.replace("http://", "https://"))
        # The handshake of a client looks to this server like half a request.
        status, said = run(capsys, "report", "test", config)
    assert status == 1, said
    assert any(
        f": {word}. {report.ADVICE_ON_TROUBLE[word]}" in said
        for word in (Trouble.NO_TLS, Trouble.CLOSED, Trouble.NO_HANDSHAKE)
    )


def test_https_at_a_server_that_waits_for_a_line_is_named(tmp_path):
    """Most plain http servers take the first bytes of TLS for the beginning of a line and wait for its end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = config_for(tmp_path, f"https://127.0.0.1:{server.getsockname()[1]}/")
        status, said = ask(config)
    assert status == 1, said
    assert "no TLS handshake in time. A service listens there and does not begin to speak https" in said


def test_certificates_are_judged(capsys, tmp_path):
    trouble = trouble_of(ssl.SSLCertVerificationError(1, "self-signed certificate"))
    assert trouble == Trouble.CERTIFICATE
    assert "ca_file" in report.advice_on_words(trouble)


def test_every_kind_of_trouble_has_advice():
    assert set(report.ADVICE_ON_TROUBLE) == set(Trouble)
    for status in (100, 301, 400, 402, 418, 451, 500, 599):
        assert report.advice_on_words(f"status {status}")
    assert report.advice_on_words("SomeError")


def test_a_config_with_reporting_off_can_be_tested(tmp_path, capsys):
    with EchoServer() as server:
        status, said = run(capsys, "report", "test", config_for(tmp_path, server.url, reporting=False))
    assert status == 0, said
    assert "reporting is false" in said


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"url": ""}, "http_reporting.url`: is empty"),
        ({"ca_file": __file__}, "http_reporting.ca_file`: holds no certificate that can be read"),
        ({"auth_user": "u", "auth_pass_env": "NO_SUCH_VARIABLE_HERE"}, "is not set or empty"),
        ({"urll": "x"}, "did you mean `url`?"),
    ],
)
def test_mistakes_in_the_config_have_messages(tmp_path, capsys, block, words):
    status, said = run(capsys, "report", "test", config_for(tmp_path, **{"url": "http://127.0.0.1:1/", **block}))
    assert status == 1, said
    assert words in said


# report replay


def left_behind(root: Path, config: Path | None, number: int = 3) -> ResultPaths:
    result = ResultPaths(root)
    target = Spool(spool_file_of(result.events(1), "job", 1))
    for seq in range(number):
        target.append(json.dumps({"event": "PROGRESS", "time": f"{seq:03d}", "seq": seq}).encode())
    target.close()
    recorded(result, config)
    return result


def recorded(result: ResultPaths, config: Path | None) -> None:
    """Note that this user ran the simulation with this config."""
    simulation = str(uuid.uuid4())
    result.identity.write_text(json.dumps({"id": simulation, "seed": 1, "created": "now"}))
    if config is not None:
        own_runs.note_own_run(simulation, [config], result.root)


def test_replay_takes_url_and_credentials_from_the_config_of_the_run(tmp_path, capsys):
    with EchoServer() as server:
        config = config_for(tmp_path, server.url, parameters={"group": "em"}, auth_user="u", auth_pass=CANARY)
        result = left_behind(tmp_path / "results/x", config)
        status, said = run(capsys, "report", "replay", result.root)
        assert [(entry.json["seq"], entry.json["group"]) for entry in server.received] == [(n, "em") for n in range(3)]
        assert [entry for entry in server.received if "authorization" not in entry.headers] == []
        assert status == 0, said
        assert "3 delivered. None is left." in said
        assert CANARY not in said
        status, said = run(capsys, "report", "replay", result.root)
        assert status == 0, said
        assert "nothing to send" in said
        assert len(server.received) == 3


def test_replay_takes_the_receiver_from_another_config_if_that_of_the_run_is_gone(tmp_path, capsys):
    result = left_behind(tmp_path / "results/x", tmp_path / "is gone.yaml")
    status, said = run(capsys, "report", "replay", result.root)
    assert status == 1, said
    assert "is gone.yaml" in said
    assert "--config FILE" in said
    with EchoServer() as server:
        status, said = run(capsys, "report", "replay", "--config", config_for(tmp_path, server.url), result.root)
        assert status == 0, said
        assert len(server.received) == 3


def test_replay_without_a_folder_sends_what_all_results_here_have_left(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = run(capsys, "report", "replay")
    assert status == 1, said
    assert "there is no result with status reports" in said
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        for name in ("a", "b"):
            left_behind(tmp_path / "results" / name, config)
        (tmp_path / "results/c").mkdir()
        status, said = run(capsys, "report", "replay")
        assert status == 0, said
        assert len(server.received) == 6
    assert said.count("None is left.") == 2


def test_replay_to_an_absent_receiver_says_what_is_left_and_why(tmp_path):
    config = config_for(tmp_path, f"http://127.0.0.1:{closed_port()}/")
    result = left_behind(tmp_path / "results/x", config)
    lines: list[str] = []
    status = report.replay([result.root], None, lines.append, limits=IMPATIENT)
    said = "\n".join(lines)
    assert status == 1, said
    assert "0 delivered, 3 left: connection refused. Nothing listens at that port." in said
    assert left_in(result) == 3


def test_replay_of_a_folder_without_a_result_is_refused(tmp_path, capsys):
    status, said = run(capsys, "report", "replay", tmp_path)
    assert status == 1, said
    assert "Give the folder of a result" in said


@pytest.mark.parametrize("place", ["in the folder", "elsewhere", "relative"])
def test_replay_of_a_received_folder_sends_nothing_where_the_folder_says(tmp_path, capsys, monkeypatch, place):
    """The attack: plan.json names a config of the sender, with an address and a variable of this user in it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.chdir(tmp_path)
    result = left_behind(tmp_path / "results/received", None)
    with EchoServer() as theirs, EchoServer() as ours:
        folder = result.root if place == "in the folder" else tmp_path
        evil = config_for(folder, theirs.url, auth_user="u", auth_pass_env="AWS_SECRET_ACCESS_KEY")
        named = "config.yaml" if place == "relative" else str(evil)
        for plan in (result.plan, result.plan_of(1)):
            plan.write_text(json.dumps({"config_files": [named], "reporting": True}))
        status, said = run(capsys, "report", "replay", result.root)
        assert status == 1, said
        assert "there is no record that you ran this simulation" in said
        assert "stemphony report replay --config FILE" in said
        own = config_for(tmp_path / "results", ours.url)
        status, said = run(capsys, "report", "replay", "--config", own, result.root)
        assert status == 0, said
        assert (len(theirs.received), len(ours.received)) == (0, 3)


def test_an_address_is_shown_before_the_first_report_goes_there(tmp_path, capsys):
    with FaultServer("500") as server:
        config = config_for(tmp_path, f"{server.url}{CANARY}?token={CANARY}")
        new = f"note: {server.url.rstrip('/')} is new: you have sent no reports there before."
        result = left_behind(tmp_path / "results/x", config)
        lines: list[str] = []
        report.replay(
            [result.root], None, lambda line: lines.append(f"{len(server.received)} {line}"), limits=IMPATIENT
        )
        assert f"0 {new}" in lines
        lines.clear()
        report.replay([result.root], None, lines.append, limits=IMPATIENT)
    assert new not in lines
    assert CANARY not in "".join(lines)


def test_replay_sends_no_file_that_a_link_in_the_folder_leads_to(tmp_path, capsys):
    private = tmp_path / "credentials.json"
    private.write_text(json.dumps({"auths": CANARY, "event": "PROGRESS"}) + "\n")
    with EchoServer() as server:
        result = left_behind(tmp_path / "results/x", config_for(tmp_path, server.url))
        (result.events(1) / "more.jsonl").symlink_to(private)
        (tmp_path / "private.jsonl").write_text(private.read_text())
        (result.run(2)).symlink_to(tmp_path)
        result.run(3).mkdir()
        result.events(3).symlink_to(tmp_path)
        run(capsys, "report", "replay", result.root)
        assert [entry.json["seq"] for entry in server.received] == [0, 1, 2]


def test_a_record_that_another_user_could_write_is_not_used(tmp_path, capsys):
    with EchoServer() as server:
        result = left_behind(tmp_path / "results/x", config_for(tmp_path, server.url))
        for file in (own_runs.state_folder() / "simulations").iterdir():
            file.chmod(0o666)
        status, said = run(capsys, "report", "replay", result.root)
        assert (status, server.received) == (1, []), said


def test_replay_names_events_that_are_refused_permanently(tmp_path, capsys):
    with FaultServer("ok", "422", "ok") as server:
        result = left_behind(tmp_path / "results/x", config_for(tmp_path, server.url))
        status, said = run(capsys, "report", "replay", result.root)
    assert status == 0, said
    assert "2 delivered, 1 refused permanently and kept in" in said


def test_replay_everything_sends_accepted_and_refused_events_again(tmp_path, capsys):
    with FaultServer("ok", "422", "ok") as server:
        result = left_behind(tmp_path / "results/x", config_for(tmp_path, server.url))
        run(capsys, "report", "replay", result.root)
    letters = result.events(1) / "job.attempt-1.dead_letters"
    assert letters.exists()
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        assert "nothing to send" in run(capsys, "report", "replay", "--config", config, result.root)[1]
        status, said = run(capsys, "report", "replay", "--everything", "--config", config, result.root)
        assert [entry.json["seq"] for entry in server.received] == [0, 1, 2]
    assert (status, letters.exists()) == (0, False)
    assert "3 delivered. None is left." in said


def test_replay_everything_leaves_events_that_a_living_process_sends(tmp_path, capsys):
    result = left_behind(tmp_path / "results/x", None)
    living = Spool(spool_file_of(result.events(1), "other", 1), hold=True)
    living.append(json.dumps({"event": "PROGRESS", "time": "000", "seq": 7}).encode())
    with EchoServer() as server:
        run(capsys, "report", "replay", "--everything", "--config", config_for(tmp_path, server.url), result.root)
        assert sorted(entry.json["seq"] for entry in server.received) == [0, 1, 2]
    living.close()


def test_replay_everything_keeps_events_that_it_cannot_send(tmp_path, capsys):
    gone = tmp_path / "is gone.yaml"
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        lost, fine = left_behind(tmp_path / "results/a", config), left_behind(tmp_path / "results/b", config)
        run(capsys, "report", "replay", lost.root, fine.root)
        assert len(server.received) == 6
        assert run(capsys, "report", "replay", "--everything", "--config", gone, lost.root)[0] == 1
        assert left_in(lost) == 0
        recorded(lost, gone)
        status, said = run(capsys, "report", "replay", "--everything", lost.root, fine.root)
        assert (status, left_in(lost), len(server.received)) == (1, 0, 9)
    assert f"{lost.root}: not sent. config: the file {gone} cannot be read" in said
    assert f"{fine.root}: 3 delivered. None is left." in said


def test_notes_that_cannot_be_removed_are_named_and_stop_no_other_result(tmp_path, capsys, monkeypatch):
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        kept, fine = left_behind(tmp_path / "results/a", config), left_behind(tmp_path / "results/b", config)
        forget = delivery.forget

        def refuse(file: Path) -> None:
            if file.is_relative_to(kept.root):
                raise PermissionError(file)
            forget(file)

        monkeypatch.setattr(delivery, "forget", refuse)
        status, said = run(capsys, "report", "replay", "--everything", kept.root, fine.root)
        assert len(server.received) == 3
    assert status == 1, said
    assert "the records of delivery cannot be removed (PermissionError)" in said


def test_a_result_that_cannot_be_sent_stops_no_other_result(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        left_behind(tmp_path / "results/a", tmp_path / "is gone.yaml")
        left_behind(tmp_path / "results/b", None)
        left_behind(tmp_path / "results/c", config)
        delivered = left_behind(tmp_path / "results/d", config)
        run(capsys, "report", "replay", delivered.root)
        recorded(delivered, Path("is not needed any more.yaml"))
        status, said = run(capsys, "report", "replay")
        assert len(server.received) == 6
    assert status == 1, said
    assert "results/a: not sent. config: the file" in said
    assert "results/b: not sent. there is no record that you ran this simulation" in said
    assert "results/c: 3 delivered. None is left." in said
    assert "results/d: nothing to send" in said


def test_replay_of_a_folder_sends_no_reports_of_another_simulation(tmp_path, capsys):
    """The attack: a received folder reports the end of a simulation that this user runs, with this user's password."""
    result = left_behind(tmp_path / "results/received", None)
    events = result.events(1) / "planted.jsonl"
    events.write_text(json.dumps({"event": "FINISH", "id": "c6b3e1f4-0000-4000-8000-000000000000", "run": 1}) + "\n")
    with EchoServer() as server:
        status, said = run(capsys, "report", "replay", "--config", config_for(tmp_path, server.url), result.root)
        assert status == 1, said
        assert "planted.jsonl has reports of another simulation" in said
        assert "3 delivered. None is left." in said
        status, said = run(
            capsys, "report", "replay", "--everything", "--config", config_for(tmp_path, server.url), result.root
        )
        assert [entry.json["seq"] for entry in server.received] == [0, 1, 2] * 2
        assert (status, events.exists()) == (1, True)
        events.unlink()
        status, said = run(capsys, "report", "replay", "--config", config_for(tmp_path, server.url), result.root)
        assert status == 0, said


@pytest.mark.parametrize("form", [str.upper, "{{{}}}".format, "urn:uuid:{}".format])
def test_replay_refuses_a_folder_with_the_id_of_another_simulation_in_another_form(tmp_path, capsys, form):
    """The attack: the id in capitals is not the same text, and the events name the same simulation."""
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        mine = left_behind(tmp_path / "results/mine", config)
        received = left_behind(tmp_path / "received/mine", None)
        own = json.loads(mine.identity.read_text())["id"]
        received.identity.write_text(json.dumps({"id": form(own), "seed": 1, "created": "now"}))
        status, said = run(capsys, "report", "replay", "--config", config, received.root)
        assert (status, server.received) == (1, []), said
        assert f"it has the same id as {mine.root}" in said


def test_replay_of_a_folder_without_identity_takes_the_name_of_no_simulation_of_this_user(tmp_path, capsys):
    """The attack: simulation.json is left out, so nothing says whose reports these are."""
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        mine = left_behind(tmp_path / "results/mine", config)
        received = left_behind(tmp_path / "received/mine", None)
        own = json.loads(mine.identity.read_text())["id"]
        received.identity.unlink()
        planted = received.events(1) / "planted.jsonl"
        planted.write_text(json.dumps({"event": "FINISH", "id": own, "run": 1}) + "\n")
        status, said = run(capsys, "report", "replay", "--config", config, received.root)
        assert (status, server.received) == (1, []), said
        assert f"it has the same id as {mine.root}" in said
        with planted.open("a") as file:
            file.write(json.dumps({"event": "FINISH", "id": str(uuid.uuid4()), "run": 1}) + "\n")
        status, said = run(capsys, "report", "replay", "--config", config, received.root)
        assert (status, server.received) == (1, []), said
        assert "its reports name 2 simulations" in said


def test_replay_refuses_a_folder_with_the_id_of_another_simulation_of_this_user(tmp_path, capsys):
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        mine = left_behind(tmp_path / "results/mine", config)
        received = left_behind(tmp_path / "received/mine", None)
        received.identity.write_text(mine.identity.read_text())
        status, said = run(capsys, "report", "replay", "--config", config, received.root)
        assert status == 1, said
        assert f"it has the same id as {mine.root}" in said
        assert server.received == []
        status, said = run(capsys, "report", "replay", mine.root)
        assert status == 0, said


def test_replay_of_a_copy_sends_reports_of_its_original_only_when_that_is_gone(tmp_path, capsys):
    """Reports leave from the original's folder while this user has it. A folder may only claim to be a copy."""
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        mine = left_behind(tmp_path / "results/mine", config)
        copy = left_behind(tmp_path / "received/mine", None)
        own = json.loads(mine.identity.read_text())["id"]
        copy.identity.write_text(json.dumps({**json.loads(copy.identity.read_text()), "copied_from": own}))
        (copy.events(1) / "planted.jsonl").write_text(json.dumps({"event": "FINISH", "id": own, "run": 1}) + "\n")
        status, said = run(capsys, "report", "replay", "--config", config, copy.root)
        assert status == 1, said
        assert f"has reports of another simulation, {mine.root}" in said
        assert len(server.received) == 3
        mine.identity.unlink()
        status, said = run(capsys, "report", "replay", "--config", config, copy.root)
        assert status == 0, said
        assert len(server.received) == 4


def test_replay_sends_what_the_first_original_of_a_copy_of_a_copy_left(tmp_path, capsys, monkeypatch):
    """Both originals are gone, but a command still sends the reports of the first."""
    monkeypatch.chdir(tmp_path)
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        folder, known = tmp_path / "first", []
        result = ResultPaths(folder)
        for run_number, name in enumerate(("second", "third", ""), 1):
            known.append(ledger.identity(result, 7).id)
            spool = Spool(spool_file_of(result.events(run_number), "job", run_number))
            spool.append(json.dumps({"event": "PROGRESS", "id": known[-1], "time": "0", "seq": run_number}).encode())
            spool.close()
            if name:
                shutil.copytree(result.root, tmp_path / name)
                result = ResultPaths(tmp_path / name)
                assert "is a copy of" in settle_identity(result)
        for name in ("first", "second"):
            shutil.rmtree(tmp_path / name)
        status, said = run(capsys, "report", "replay", "--config", config, result.root)
        assert status == 0, said
        assert [entry.json["id"] for entry in server.received] == known
        status, said = run(capsys, "report", "replay", "--everything", "--config", config, result.root)
        assert [entry.json["id"] for entry in server.received] == 2 * known


def test_replay_sends_own_reports_of_a_file_and_keeps_the_foreign_ones(tmp_path, capsys):
    """Own reports are sent, also with --everything. Foreign ones stay, and each is named once each time."""
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        result = left_behind(tmp_path / "results/x", config, number=1)
        own, foreign = json.loads(result.identity.read_text())["id"], str(uuid.uuid4())
        mixed = result.events(1) / "mixed.jsonl"
        named = [foreign, own, foreign, own, foreign]
        lines = [json.dumps({"event": "PROGRESS", "id": one, "time": "1", "seq": n}) for n, one in enumerate(named)]
        mixed.write_text("\n".join([lines[0], "no event", *lines[1:], ""]))
        for number, words in enumerate(([], [], ["--everything"], ["--everything"])):
            server.received.clear()
            status, said = run(capsys, "report", "replay", *words, result.root)
            assert status == 1, said
            assert f"has reports of another simulation, {foreign}" in said
            assert [entry.json["seq"] for entry in server.received] == ([0, 1, 3] if number != 1 else [])
            assert [json.loads(line) for line in mixed.with_suffix(".other.jsonl").read_text().splitlines()] == [
                json.loads(lines[0]), json.loads(lines[2]),
            ]  # fmt: skip
        assert mixed.read_text().count(foreign) == 3


def test_foreign_reports_that_would_fill_the_memory_are_skipped(tmp_path, capsys, monkeypatch):
    """The attack: a received folder with gigabytes of foreign reports before an own one."""
    monkeypatch.setattr(delivery, "LARGEST_SET_APART", 500)
    with EchoServer() as server:
        result = left_behind(tmp_path / "results/x", config_for(tmp_path, server.url), number=1)
        own, foreign = json.loads(result.identity.read_text())["id"], str(uuid.uuid4())
        mixed = result.events(1) / "mixed.jsonl"
        mixed.write_text("".join(json.dumps({"event": "X", "id": one}) + "\n" for one in [*10 * [foreign], own]))
        status, said = run(capsys, "report", "replay", result.root)
        assert status == 1, said
        assert len(server.received) == 1, "that of the other file"
        assert "1 left: they stand behind reports of another simulation" in said
        assert mixed.with_suffix(".other.jsonl").read_text() == ""


def test_a_pipe_or_link_in_place_of_the_file_for_foreign_reports_stops_nothing(tmp_path, capsys):
    with EchoServer() as server:
        config = config_for(tmp_path, server.url)
        for kind in ("pipe", "link"):
            result = left_behind(tmp_path / f"results/{kind}", config, number=1)
            own, private = json.loads(result.identity.read_text())["id"], tmp_path / "private"
            mixed = result.events(1) / "mixed.jsonl"
            events = [{"event": "PROGRESS", "id": one, "time": "1"} for one in (str(uuid.uuid4()), own)]
            mixed.write_text("".join(json.dumps(event) + "\n" for event in events))
            if kind == "pipe":
                os.mkfifo(mixed.with_suffix(".other.jsonl"))
            else:
                mixed.with_suffix(".other.jsonl").symlink_to(private)
            server.received.clear()
            status, said = run(capsys, "report", "replay", result.root)
            assert status == 1, said
            assert len(server.received) == 1, "that of the other file"
            assert not private.exists()
