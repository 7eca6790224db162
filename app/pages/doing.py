"""What a person may do from a page: each action says first what it would do, and does it once it is confirmed.

An action is one module that makes an `Action`, and one line in `ACTIONS`.
"""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.pages.acknowledging import ACKNOWLEDGE
from app.pages.action import Action, Given
from app.pages.requesting import CONFIRM, EXIT, FLATTEN, PAUSE, RESUME
from app.pages.sessions import Session
from app.pages.site import Known, Site, TheSite
from evenkeel.errors import LedgerUnavailable, OperatorError

ACTIONS: dict[str, Action] = {one.name: one for one in (ACKNOWLEDGE, PAUSE, RESUME, EXIT, FLATTEN, CONFIRM)}
MOST_TEXT = 500
"""Characters of one field."""

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/do/{name}")
async def asked(request: Request, site: TheSite, session: Known, name: str) -> Response:
    """The page that says what would be done, with the form that does it. It changes nothing."""
    action = _action(name)
    given = _given(action, dict(request.query_params))
    return await _form(request, site, session, action, given, 200, "")


@router.post("/do/{name}")
async def done(request: Request, site: TheSite, session: Known, name: str) -> Response:
    """Do it, once the form is ours; then the page where it shows."""
    action = _action(name)
    form = await request.form(max_files=0, max_fields=16)
    site.check_form(request, str(form.get("token", "")), session)
    given = _given(action, {key: str(value) for key, value in form.items()})
    try:
        then = await site.reader.act(
            lambda ledger: action.do(ledger, given, session.who), site.reader.written_s
        )
    except OperatorError as fault:
        return await _form(request, site, session, action, given, 409, str(fault))
    except LedgerUnavailable as fault:
        text = f"It is not known whether this was done, and it may be done yet: {fault}. See before you ask again."
        values = {"title": "Not known whether it was done", "text": text, "written": True}
        return site.page(request, "fault.html", session, 503, **values)
    return RedirectResponse(then, 303)


async def _form(
    request: Request, site: Site, session: Session, action: Action, given: Given, status: int, fault: str
) -> Response:
    says = await site.reader.act(lambda ledger: action.says(ledger, given))
    return site.page(request, "do.html", session, status, action=action, given=given, says=says, fault=fault)


def _action(name: str) -> Action:
    if name not in ACTIONS:
        raise HTTPException(404)
    return ACTIONS[name]


def _given(action: Action, values: dict[str, str]) -> Given:
    """What was given of what the action takes. Raises 400 for a text that is too long."""
    names = (*action.fixed, *(one.name for one in action.asks))
    found = {name: values.get(name, "") for name in names}
    if any(len(value) > MOST_TEXT for value in found.values()):
        raise HTTPException(400, f"A field takes at most {MOST_TEXT} characters.")
    return found
