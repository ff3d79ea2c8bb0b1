"""Error bodies: the specification's, the legacy one, and one inside a stream that suits both."""

from __future__ import annotations

from toolkit.completion.shapes import LegacyError, StreamError, StrictError
from toolkit.errors import InvalidRequest, ModelNotFound, ToolkitError

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {429: "rate_limit_exceeded"}
_UNEXPECTED = "An unexpected error occurred. The request was not at fault."


def error_status(error: BaseException) -> int:
    """The HTTP status of an error; 500 for anything that this package did not raise on purpose."""
    return error.status if isinstance(error, ToolkitError) else 500


def strict_error(error: BaseException) -> StrictError:
    """The specification's error body. Foreign errors show nothing of themselves."""
    return strict_error_body(error_status(error), _message(error))


def strict_error_body(status: int, detail: str, instance: str | None = None) -> StrictError:
    """The specification's error body for what has no error class, such as a wrong method."""
    body: StrictError = {"status": status, "title": _title(status), "detail": detail}
    if instance is not None:
        body["instance"] = instance
    return body


def legacy_error(error: BaseException) -> LegacyError:
    """The legacy error body. Foreign errors show nothing of themselves."""
    param = error.param if isinstance(error, InvalidRequest) else None
    return legacy_error_body(error_status(error), _message(error), param=param, code=_code(error))


def legacy_error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> LegacyError:
    """The legacy error body for what has no error class, such as a wrong method."""
    return {"error": {"message": message, "type": _type(status), "param": param, "code": code}}


def stream_error(error: BaseException) -> StreamError:
    """The last event but `[DONE]` of a stream that failed; its keys satisfy both dialects."""
    status, message = error_status(error), _message(error)
    return {
        "error": {
            "message": message,
            "type": _type(status),
            "code": _code(error),
            "status": status,
            "title": _title(status),
            "detail": message,
        }
    }


def _message(error: BaseException) -> str:
    return error.message if isinstance(error, ToolkitError) else _UNEXPECTED


def _title(status: int) -> str:
    return _TITLES.get(status, "Bad Request" if status < 500 else "Internal Server Error")


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def _code(error: BaseException) -> str | None:
    return (
        "model_not_found" if isinstance(error, ModelNotFound) else _CODES.get(error_status(error))
    )
