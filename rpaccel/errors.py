"""Errors a user can meet, each with the exit code the command line ends with."""

__all__ = [
    "BuildError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "LoadError",
    "MismatchError",
    "QueryError",
    "RPAccelError",
    "ToolError",
]


class RPAccelError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class ConfigError(RPAccelError):
    """A configuration, or a model that does not fit a machine: names field, value, what fits."""

    exit_code = 2


class DataError(RPAccelError):
    """A data or weight file that cannot be used: names the file and the line or tensor."""

    exit_code = 2


class QueryError(RPAccelError):
    """A query refused before anything was sent: names field, value and what is accepted."""

    exit_code = 2


class ToolError(RPAccelError):
    """A missing tool or optional package: names it and how to install it."""

    exit_code = 3


class MismatchError(RPAccelError):
    """Gateware and golden model differ: names the first difference."""

    exit_code = 4


class BuildError(RPAccelError):
    """A simulator build or a simulation failed: names the step and where its log is."""

    exit_code = 5


class LoadError(RPAccelError):
    """A load generator did not keep to its schedule: nothing measured under it may be reported."""

    exit_code = 5


class DeviceError(RPAccelError):
    """The device refused, timed out, or reported an error status.

    Parameters
    ----------
    message : str
    status : int or None
        The completion's :class:`rpaccel.abi.Status`, where there was a completion.
    """

    exit_code = 5

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
