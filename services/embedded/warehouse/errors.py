"""What can go wrong, as ClickHouse says it: a code, a name, a text and the HTTP status that its server maps it to.

Clients decide by the code whether to retry, so a failure of ours carries the code that a real server would give.
"""

from __future__ import annotations

import re

# The code of the server's source (ErrorCodes.cpp) for what this process itself refuses.
BAD_ARGUMENTS = (36, "BAD_ARGUMENTS")
NOT_IMPLEMENTED = (48, "NOT_IMPLEMENTED")
SYNTAX_ERROR = (62, "SYNTAX_ERROR")
UNKNOWN_FORMAT = (73, "UNKNOWN_FORMAT")
UNKNOWN_TYPE_OF_QUERY = (78, "UNKNOWN_TYPE_OF_QUERY")
UNKNOWN_COMPRESSION_METHOD = (89, "UNKNOWN_COMPRESSION_METHOD")
UNKNOWN_SETTING = (115, "UNKNOWN_SETTING")
INCORRECT_DATA = (117, "INCORRECT_DATA")
READONLY = (164, "READONLY")
TOO_MANY_SIMULTANEOUS_QUERIES = (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
NETWORK_ERROR = (210, "NETWORK_ERROR")
ABORTED = (236, "ABORTED")
NOT_ENOUGH_SPACE = (243, "NOT_ENOUGH_SPACE")
INTO_OUTFILE_NOT_ALLOWED = (358, "INTO_OUTFILE_NOT_ALLOWED")
SESSION_NOT_FOUND = (372, "SESSION_NOT_FOUND")
SESSION_IS_LOCKED = (373, "SESSION_IS_LOCKED")
ACCESS_DENIED = (497, "ACCESS_DENIED")
AUTHENTICATION_FAILED = (516, "AUTHENTICATION_FAILED")
UNKNOWN_EXCEPTION = (1002, "UNKNOWN_EXCEPTION")

_STATUS_CODES: dict[int, tuple[int, ...]] = {
    # The server's exceptionCodeToHTTPStatus.cpp; every other code is 500.
    400: (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676),
    401: (194,),
    403: (192, 193, 497, 512, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229,),
    415: (779,),
    501: (48,),
    503: (76, 209, 439),
}
_STATUS = {code: status for status, codes in _STATUS_CODES.items() for code in codes}
_CODE = re.compile(r"Code: (\d+)")
# Where the data of a request lie is nothing to a client.
_FILE = re.compile(r"\s*: \(in file/uri [^)]*\)")


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
        text = _FILE.sub("", str(error))
        found = _CODE.search(text)
        self.code = int(found.group(1)) if found else UNKNOWN_EXCEPTION[0]
        text = text[found.start() :] if found else f"Code: 1002. DB::Exception: {text}. (UNKNOWN_EXCEPTION)"
        Exception.__init__(self, text)
