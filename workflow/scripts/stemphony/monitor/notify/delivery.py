"""Deliver one notification to one target."""

from __future__ import annotations

import enum
import http.client
import smtplib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stemphony.monitor.notify.exchange import Exchange, mail, post
from stemphony.monitor.notify.notice import Message, body_for, mail_for
from stemphony.monitor.notify.targets import Target
from stemphony.status.events import clean_text

NAMED: Final = 5
"""Most refused recipients that a line of the log names."""

SAID_CHARACTERS: Final = 120
"""Most characters of a mail server's answer that a line of the log quotes."""


class NextStep(enum.Enum):
    """What happens after one try."""

    DONE = "done"
    RETRY = "retry"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class DeliveryResult:
    """The result of one try.

    Attributes
    ----------
    next_step : NextStep
        What happens next.
    trouble : str
        What went wrong, without the address of a webhook. Empty after a complete delivery.
    """

    next_step: NextStep
    trouble: str = ""


def deliver(target: Target, notice: Message, exchange: Exchange) -> DeliveryResult:
    """Send the notification `notice` to a `target` within the time of the `exchange`.

    Returns
    -------
    Outcome
        DONE after a delivery, also if the mail server refused some recipients, because a second try would reach the
        others twice. GIVE_UP if the mail server refuses the mail permanently. RETRY otherwise.
    """
    try:
        if target.format == "email":
            return _deliver_mail(target, notice, exchange)
        headers = {"Content-Type": "application/json", "User-Agent": "stemphony-monitor"}
        status = post(exchange, target.url, body_for(target, notice), headers, target.ca_file)
    except smtplib.SMTPRecipientsRefused as error:
        # One answer 421 ends the connection, so the server never saw the recipients after it. Then the mail is tried
        # again.
        final = all(_is_final(code) for code, _ in error.recipients.values())
        return DeliveryResult(NextStep.GIVE_UP if final else NextStep.RETRY, _refusals(error.recipients))
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        next_step = NextStep.GIVE_UP if _is_final(error.smtp_code) else NextStep.RETRY
        return DeliveryResult(next_step, f"the mail is refused: {_answer(error.smtp_code, error.smtp_error)}")
    except (OSError, smtplib.SMTPException, http.client.HTTPException, ValueError) as error:
        if exchange.is_cut or isinstance(error, TimeoutError):
            return DeliveryResult(NextStep.RETRY, "no answer in time")
        code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
        return DeliveryResult(NextStep.RETRY, type(error).__name__ + code)
    return DeliveryResult(NextStep.DONE) if 200 <= status < 300 else DeliveryResult(NextStep.RETRY, f"status {status}")


def _deliver_mail(target: Target, notice: Message, exchange: Exchange) -> DeliveryResult:
    refused = mail(
        exchange, mail_for(target, notice), target.sender, target.recipients, target.host, target.port,
        target.security, target.user, target.password, target.ca_file,
    )  # fmt: skip
    return DeliveryResult(NextStep.DONE, _refusals(refused) if refused else "")


def _is_final(code: int) -> bool:
    """Return whether a mail server would refuse the same mail again."""
    return 500 <= code < 600


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    named = [f"{clean_text(recipient)} ({_answer(*answer)})" for recipient, answer in list(refused.items())[:NAMED]]
    more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    return f"the mail server refuses {', '.join(named)}{more}"


def _answer(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {clean_text(' '.join(words.split()))[:SAID_CHARACTERS]}".rstrip()
