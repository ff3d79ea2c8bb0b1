"""Everything that can go wrong, as one tree.

    ToolkitError
    ├── InvalidRequest        the request breaks a rule of the contract             400
    │   └── ModelNotFound     `model` names nothing that is loaded                  404
    ├── QueueFull             more requests than the queue holds                    429
    ├── EngineFault           our own fault while a request ran                     500
    ├── EngineClosed          the engine was closed while a request waited          500
    ├── ModelError            a model cannot be had
    │   ├── FetchError        the download failed: offline, disk full, wrong sum
    │   ├── CheckpointError   files are missing, damaged or contradict each other
    │   └── UnsupportedModel  a family, attribute or format that is not handled exactly
    ├── RunError              an experiment's declaration or record cannot be used
    └── TargetError           another server refuses, fails or cannot be reached    502

Every message says what was given, which rule it breaks and what to do instead.
"""

from __future__ import annotations


class ToolkitError(Exception):
    """Base of every error that this package raises on purpose."""

    status = 500
    """The HTTP status that a server answers with."""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message

    def _render_traceback_(self) -> list[str]:
        """The short form that IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self.message}"]


class InvalidRequest(ToolkitError):
    """A request breaks a rule. `param` names the field, or is None when no single field is to
    blame."""

    status = 400

    def __init__(self, message: str, *, param: str | None = None):
        super().__init__(message)
        self.param = param


class ModelNotFound(InvalidRequest):
    """`model` names nothing that is loaded here."""

    status = 404


class QueueFull(ToolkitError):
    """More requests wait than the queue holds. `retry_after` is in seconds."""

    status = 429

    def __init__(self, message: str, *, retry_after: int = 1):
        super().__init__(message)
        self.retry_after = retry_after


class EngineFault(ToolkitError):
    """A step failed through no fault of the request. Other requests and later ones are not
    affected."""


class EngineClosed(ToolkitError):
    """The engine was closed while the request waited or ran."""


class ModelError(ToolkitError):
    """A model cannot be had: see the three kinds below."""


class FetchError(ModelError):
    """The download failed."""


class CheckpointError(ModelError):
    """Files of a checkpoint are missing, damaged or contradict each other."""


class UnsupportedModel(ModelError):
    """A family, an attribute or a file format that is not handled exactly, and so is refused."""


class RunError(ToolkitError):
    """An experiment's declaration or record cannot be used."""


class TargetError(ToolkitError):
    """Another server refused a request, failed, or cannot be reached."""

    status = 502

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        body: str = "",
        retry: bool = False,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.code = code
        """The HTTP status that it sent; None where none came."""
        self.body = body
        """What it sent, as text."""
        self.retry = retry
        """Whether the same request may succeed later: no connection, 408, 429, 5xx."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""
