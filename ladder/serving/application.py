"""The routes of the server, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ladder.errors import LadderError
from ladder.options.serving import ServeOptions
from ladder.runtime.artifact import MANIFEST
from ladder.runtime.generation import Generation
from ladder.runtime.language_model import LanguageModel
from ladder.serving.guard import Guard, answer, is_local
from ladder.serving.page import HEADERS, page
from ladder.serving.protocol import read_request
from ladder.serving.refusal import OVERLOADED, Refusal
from ladder.serving.reply import Reply
from ladder.serving.ticket import Ticket
from ladder.serving.work import work_of
from ladder.serving.worker import Worker

LARGEST = 16 << 20  # bytes of a request
JSON = "application/json"
ENDED = 499  # the status for a client that has gone: nobody reads it
INTERNAL = Refusal("an error in the server; its log has more", status=500, kind=OVERLOADED)
Report = Callable[[Generation], object]


def application(model: LanguageModel, options: ServeOptions, report: Report) -> Starlette:
    """The server of ``model``, for any server of ASGI. ``report`` is called after each answer.

    Nothing else may use the model while it runs.
    """
    service = Service(model, options, report)
    routes = [
        Route("/", service.page),
        Route("/health", service.health),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.model),
        Route("/v1/completions", service.complete, methods=["POST"]),
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
    ]
    guard = Middleware(Guard, key=options.api_key, local=is_local(options.host))
    handlers: dict[Any, Any] = {
        LadderError: _refuse,
        HTTPException: _refuse_by_status,
        ClientDisconnect: lambda request, error: Response(status_code=ENDED),
        Exception: lambda request, error: answer(INTERNAL),
    }
    return Starlette(
        routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=service.lifespan
    )


class Service:
    """One model and its queue."""

    def __init__(self, model: LanguageModel, options: ServeOptions, report: Report) -> None:
        folder = model.session.artifact.folder
        self.name = options.name or folder.resolve().name
        self._model, self._most = model, options.tokens
        self._worker = Worker(model, options.queue)
        self._report = report
        self._about = {
            "id": self.name,
            "object": "model",
            "created": int((folder / MANIFEST).stat().st_mtime),
            "owned_by": "ladder",
        }

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The worker runs as long as the server."""
        self._worker.start()
        try:
            yield
        finally:
            await run_in_threadpool(self._worker.close)

    async def page(self, request: Request) -> Response:
        return HTMLResponse(page(), headers=HEADERS)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", **self._worker.state()})

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._about]})

    async def model(self, request: Request) -> Response:
        self._check_name(request.path_params["name"])
        return JSONResponse(self._about)

    async def complete(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def _answer(self, request: Request, chat: bool) -> Response:
        body = await _body(request)
        asked = await run_in_threadpool(read_request, body, chat)
        self._check_name(asked.model)
        work = await run_in_threadpool(work_of, self._model, asked, self._most)
        ticket, reply = Ticket(self._worker, work), Reply(self.name, chat)
        if asked.stream:
            return _Events(self._streamed(ticket, reply, asked.include_usage), ticket)
        made = await _unless_gone(request, ticket)
        if made is None:
            return Response(status_code=ENDED)
        self._report(made)
        return JSONResponse(reply.whole(made))

    def _check_name(self, name: str | None) -> None:
        if name not in (None, self.name):
            raise Refusal(
                f"there is no model '{name:.80}'; this server has '{self.name}'",
                "model",
                status=404,
                code="model_not_found",
            )

    async def _streamed(self, ticket: Ticket, reply: Reply, usage: bool) -> AsyncIterator[str]:
        """The answer as server-sent events."""
        rest = {"usage": None} if usage else {}  # in every object but the last
        if (begin := reply.begin()) is not None:
            yield _event({**begin, **rest})
        try:
            async for event in ticket.events():
                if isinstance(event, str):
                    yield _event({**reply.piece(event), **rest})
                    continue
                self._report(event)
                yield _event({**reply.end(event), **rest})
                if usage:
                    yield _event(reply.usage(event))
        except LadderError as error:  # too late for a status
            yield _event(_as_refusal(error).body())
        except Exception:
            yield _event(INTERNAL.body())
            raise
        yield "data: [DONE]\n\n"


class _Events(StreamingResponse):
    """Server-sent events of a ticket; a proxy must not collect them."""

    def __init__(self, events: AsyncIterator[str], ticket: Ticket) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)  # ends early if the client goes
        finally:
            self._ticket.cancel()


async def _body(request: Request) -> bytes:
    """The body of a request. Pages of other servers cannot send this type without being asked."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Refusal(f"the content type is '{kind:.60}': send {JSON}", status=415)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise Refusal(f"the request has more than {LARGEST >> 20} MiB", status=413)
    return bytes(body)


async def _unless_gone(request: Request, ticket: Ticket) -> Generation | None:
    """The finished generation; None if the client goes before."""
    answer, gone = asyncio.ensure_future(ticket.whole()), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        return await answer if answer.done() else None
    finally:
        ticket.cancel()
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _as_refusal(error: LadderError) -> Refusal:
    return error if isinstance(error, Refusal) else Refusal(error)


def _refuse(request: Request, error: LadderError) -> Response:
    return answer(_as_refusal(error))


def _refuse_by_status(request: Request, error: HTTPException) -> Response:
    """An unknown path, or another method."""
    text = f"{request.method} {request.url.path:.80}: {error.detail}"
    return answer(Refusal(text, status=error.status_code))
