"""What can go wrong, as ClickHouse says it: a code, a name, a text and the HTTP status that its server maps it to.

Clients decide by the code whether to retry, so a failure of ours carries the code that a real server would give.
"""

from __future__ import annotations

import re

# The code of the server's source (ErrorCodes.cpp) for what this process itself refuses.
BAD_ARGUMENTS = (36, "BAD_ARGUMENTS")
NOT_IMPLEMENTED = (48, "NOT_IMPLEMENTED")
SYNTAX_ERROR = (62, "SYNTAX_ERROR")
UNKNOWN_SETTING = (115, "UNKNOWN_SETTING")
INCORRECT_DATA = (117, "INCORRECT_DATA")
READONLY = (164, "READONLY")
TOO_MANY_SIMULTANEOUS_QUERIES = (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
NETWORK_ERROR = (210, "NETWORK_ERROR")
NOT_ENOUGH_SPACE = (243, "NOT_ENOUGH_SPACE")
SESSION_NOT_FOUND = (372, "SESSION_NOT_FOUND")
SESSION_IS_LOCKED = (373, "SESSION_IS_LOCKED")
QUERY_WAS_CANCELLED = (394, "QUERY_WAS_CANCELLED")
AUTHENTICATION_FAILED = (516, "AUTHENTICATION_FAILED")
ABORTED = (236, "ABORTED")
STD_EXCEPTION = (1001, "STD_EXCEPTION")
UNKNOWN_EXCEPTION = (1002, "UNKNOWN_EXCEPTION")

_STATUS_CODES: dict[int, tuple[int, ...]] = {
    # Parsing of values and statements, types, arguments.
    400: (6, 26, 27, 33, 36, 38, 41, 43, 53, 62, 69, 72, 117, 130, 131, 376, 441, 467, 675, 676),
    403: (164, 192, 193, 497, 512, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 76, 78, 81, 82, 115, 372, 511),
    408: (159,),
    411: (381,),
    413: (307,),
    501: (48,),
    503: (202, 203, 439),
}
_STATUS = {code: status for status, codes in _STATUS_CODES.items() for code in codes}
_CODE = re.compile(r"Code: (\d+)")


class Fault(Exception):
    """A refusal or failure to be told to the client; ``str()`` is the server's own wording."""

    def __init__(self, kind: tuple[int, str], message: str) -> None:
        self.code = kind[0]
        super().__init__(f"Code: {kind[0]}. DB::Exception: {message}. ({kind[1]})")

    @property
    def status(self) -> int:
        """HTTP status for a response that has not begun."""
        return _STATUS.get(self.code, 500)


class EngineFault(Fault):
    """A failure that the engine reported; its text goes through unchanged, from its first ``Code:`` on."""

    def __init__(self, error: BaseException) -> None:
        text = str(error)
        found = _CODE.search(text)
        self.code = int(found.group(1)) if found else UNKNOWN_EXCEPTION[0]
        text = text[found.start() :] if found else f"Code: 1002. DB::Exception: {text}. (UNKNOWN_EXCEPTION)"
        Exception.__init__(self, text)
