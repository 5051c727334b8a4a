"""The lines on a control socket: one JSON object a line, each way.

    -> {"version": 1, "method": "ping", "params": {"count": 2}}
    <- {"version": 1, "result": {...}, "more": true}
    <- {"version": 1, "result": {...}, "more": true}
    <- {"version": 1, "result": null}

A connection carries one request. Its answer is one line, or a stream of lines with `more` and a last one
without. A failure is the last line: {"version": 1, "error": {"code": "…", "message": "…"}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from toxproxy.errors import ToxproxyError

NAME = "control"  # the socket's, in the state folder
VERSION = 1
REQUEST_BYTES = 4096  # of a line, at most
ANSWER_BYTES = 16 << 20


class ErrorCode(Enum):
    """Why a request failed."""

    MALFORMED = "malformed"  # no request
    VERSION = "version"  # the other side speaks another version
    UNKNOWN_METHOD = "unknown_method"
    BAD_PARAMS = "bad_params"
    FAILED = "failed"  # it was understood, and could not be done
    BUSY = "busy"  # too many requests at once
    TIMED_OUT = "timed_out"


class ControlError(ToxproxyError):
    """A request failed. The text is a sentence for people."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    params: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of an answer; `more` of them may follow."""

    result: object
    more: bool = False


def encode_request(request: Request) -> bytes:
    """The line of a request. Raises `ControlError` for one that is too long."""
    line = _line({"method": request.method, "params": dict(request.params)})
    if len(line) > REQUEST_BYTES:
        raise ControlError(
            ErrorCode.BAD_PARAMS, f"a request of {len(line)} bytes, at most {REQUEST_BYTES} fit"
        )
    return line


def parse_request(line: bytes, program: str) -> Request:
    """The request in a line; `program` is this side's version, for the error. Raises `ControlError`."""
    message = _object(line)
    if (version := _version(message)) != VERSION:
        raise ControlError(
            ErrorCode.VERSION,
            f"toxproxy {program} runs there and speaks version {VERSION} of the control protocol, this "
            f"command version {version}: use the same toxproxy for both",
        )
    match message:
        case {"method": str(method)} if isinstance(params := message.get("params", {}), dict):
            return Request(method, params)
    raise ControlError(ErrorCode.MALFORMED, "expected a method and its params")


def encode_answer(answer: Answer) -> bytes:
    """The line of an answer."""
    return _line({"result": answer.result} | ({"more": True} if answer.more else {}))


def encode_error(error: ControlError) -> bytes:
    """The line of a failure."""
    return _line({"error": {"code": error.code.value, "message": str(error)}})


def parse_answer(line: bytes) -> Answer:
    """The answer in a line. Raises `ControlError`, also the one that the line holds."""
    message = _object(line)
    match message:
        case {"error": {"code": str(code), "message": str(text)}}:
            known = code in {each.value for each in ErrorCode}
            raise ControlError(ErrorCode(code) if known else ErrorCode.FAILED, text)
    if (version := _version(message)) != VERSION:
        raise ControlError(
            ErrorCode.VERSION,
            f"the program that runs there speaks version {version} of the control protocol, this command "
            f"version {VERSION}: use the same toxproxy for both",
        )
    if "result" not in message:
        raise ControlError(ErrorCode.MALFORMED, "expected a result")
    return Answer(message["result"], message.get("more") is True)


def _version(message: Mapping[str, object]) -> int:
    version = message.get("version")
    if not isinstance(version, int):
        raise ControlError(ErrorCode.MALFORMED, "expected a version")
    return version


def _object(line: bytes) -> dict[str, object]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ControlError(ErrorCode.MALFORMED, "expected a JSON object on one line")
    return message


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps({"version": VERSION, **fields}, allow_nan=False).encode() + b"\n"
