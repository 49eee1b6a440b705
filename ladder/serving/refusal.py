"""The answer to a request that is refused: OpenAI's form of errors."""

from __future__ import annotations

from typing import Any

from ladder.errors import LadderError

INVALID, UNAUTHORIZED, OVERLOADED = "invalid_request_error", "authentication_error", "server_error"


class Refusal(LadderError):
    """An error with a status of HTTP; ``param`` names the field that is wrong, ``code`` the reason.

    ``retry_after`` says after how many seconds the request may succeed.
    """

    def __init__(
        self,
        message: object,
        param: str | None = None,
        *,
        status: int = 400,
        code: str | None = None,
        kind: str = INVALID,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.param, self.status, self.code, self.kind = param, status, code, kind
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}
