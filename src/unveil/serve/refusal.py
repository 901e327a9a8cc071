"""What the server refuses, in the form of each of its APIs."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be followed.

    Args:
        status: the status of HTTP, 4xx.
        message: one line that says what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


KINDS = {  # of OpenAI's errors, by status
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
NAMES = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 422: "ValidationError"}


def body_of(path: str, status: int, message: str) -> dict[str, object]:
    """The JSON body of an error for a path: as OpenAI's, as A1111's, or {"detail": message}."""
    if path.startswith("/v1/"):
        kind = KINDS.get(status, "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}
    if path.startswith("/sdapi/"):
        name = NAMES.get(status, "HTTPException")
        return {"error": name, "detail": message, "body": "", "errors": message}
    return {"detail": message}
