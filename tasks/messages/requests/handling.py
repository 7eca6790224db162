"""What becomes of a command or a button: may this person, it is asked for under its own key, and the person is answered."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from evenkeel.errors import EvenkeelError, OperatorError, Retryable
from evenkeel.types import Frozen
from state.requests.models import RequestAction
from state.store import Store
from tasks.messages.requests.buttons import CONFIRM, command_of, number_of
from tasks.messages.requests.parsing import HELP, Command, parse

log = logging.getLogger("evenkeel.requests")
VIA = "Slack"
REMEMBERED = 2_000


class Given(Frozen):
    """What a person did in Slack: typed `text`, or pressed the button `action_id` of this `value`. `key` names it: what Slack
    sends twice has the same. `alone`: the button stood in an answer that this person alone sees.
    """

    who: str
    channel: str
    key: str
    text: str = ""
    action_id: str = ""
    value: str = ""
    alone: bool = False
    response_url: str = ""


class Reply(Frozen):
    """What the person reads. `confirm`: the number of the request that a button under it confirms."""

    text: str
    confirm: int | None = None
    replace: bool = False


class Answered(Protocol):
    """What came of asking: in words, and within how many seconds it is to be confirmed (0: it needs no confirmation)."""

    @property
    def request_id(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def confirm_within_s(self) -> int: ...


class Asks(Protocol):
    """Takes requests. Both raise OperatorError, in one line, for what is refused."""

    def ask(
        self,
        action: RequestAction,
        subject: str = "",
        *,
        who: str,
        via: str,
        key: str,
        reason: str = "",
        scope: str | None = None,
        hours: float | None = None,
        of: str | None = None,
    ) -> Answered: ...

    def confirm(self, request_id: int, *, who: str) -> Answered: ...


class Handler:
    """Answers what people do in Slack. `status` says in a few lines how everything stands."""

    def __init__(
        self, asks: Asks, store: Store, operators: tuple[str, ...], status: Callable[[Store], str]
    ) -> None:
        self._asks, self._store, self._status = asks, store, status
        self._operators = frozenset(operators)
        self._known: OrderedDict[str, None] = OrderedDict()

    def is_new(self, given: Given) -> bool:
        """Whether it was not seen before by this process: what Slack sends again is answered once. Notes it."""
        new = given.key not in self._known
        self._known[given.key] = None
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return new

    def reply(self, given: Given) -> Reply:
        """Do what is asked for where it is allowed, and say what came of it. Never raises."""
        if given.who not in self._operators:
            log.warning("%s is not among slack.operators: what was asked for was refused", given.who)
            return Reply(
                text=f"{given.who} is not among slack.operators, who alone may do this; nothing was done"
            )
        try:
            return self._done(given)
        except Retryable as fault:
            log.error("a request of %s was not taken: %s", given.who, fault)
            return Reply(text=f"the ledger cannot be used now ({fault}): ask again")
        except EvenkeelError as refused:
            return Reply(text=str(refused), replace=given.alone)
        except Exception as fault:  # one request that we fail at must not end the others
            log.exception("a request of %s failed", given.who)
            return Reply(
                text=f"a bug ({type(fault).__name__}): `evenkeel status` says what was done, the log why"
            )

    def _done(self, given: Given) -> Reply:
        if given.action_id == CONFIRM:
            found = self._asks.confirm(number_of(given.value), who=given.who)
            return Reply(text=found.text, replace=given.alone)
        command = command_of(given.action_id, given.value) if given.action_id else parse(given.text)
        if command.action == "help":
            return Reply(text=HELP)
        if command.action == "status":
            return Reply(text=self._status(self._store))
        if command.action == "ack":
            command = self._alert_meant(command)
        found = self._asks.ask(
            RequestAction(command.action),
            command.subject,
            who=given.who,
            via=VIA,
            key=given.key,
            reason=command.reason,
            scope=command.scope,
            hours=command.hours,
            of=command.of,
        )
        return Reply(text=found.text, confirm=found.request_id if found.confirm_within_s else None)

    def _alert_meant(self, command: Command) -> Command:
        """The alert by the name that the ledger has for it: messages write `fee_money` as two words. Without a name it is the
        only one that nobody has acknowledged.
        """
        waiting = [row for row in self._store.alerts(open_only=True) if row.seen_ms is None]
        if not command.subject:
            if len(waiting) == 1:
                return command.model_copy(update={"subject": waiting[0].kind, "of": waiting[0].subject})
            names = "; ".join(f"{row.kind} ({row.subject})" for row in waiting)
            raise OperatorError(
                f"{len(waiting)} alerts wait to be acknowledged: {names}; name the one you have seen; nothing was done"
                if waiting
                else "no alert waits to be acknowledged; nothing was done"
            )
        spoken = command.subject.replace("_", " ").lower()
        named = [
            row for row in self._store.alerts(open_only=True) if row.kind.replace("_", " ").lower() == spoken
        ]
        if not named:
            return command
        update: dict[str, str] = {"subject": named[0].kind}
        if command.of is None:  # what another is about was not read
            unseen = [row for row in named if row.seen_ms is None] or named[:1]
            if len(unseen) > 1:
                names = "; ".join(f"{row.kind} ({row.subject})" for row in unseen)
                raise OperatorError(
                    f"{len(unseen)} alerts are {named[0].kind}: {names}; name the one you have seen; nothing was done"
                )
            update["of"] = unseen[0].subject
        return command.model_copy(update=update)
