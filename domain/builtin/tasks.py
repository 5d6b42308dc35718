"""The built-in tasks and what they take. Checked where a job is submitted, and again where it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from rota_server.domain.builtin.header_fields import headers_problem
from rota_server.domain.builtin.mail_fields import address_problem, subject_problem
from rota_server.domain.cloudevents import is_uri_reference, string_problem
from rota_server.domain.errors import Rejected
from rota_server.domain.urls import url_problem

URL_LIMIT_CHARS = 8_192
HEADERS_LIMIT = 100
COMMAND_LIMIT = 1_000
RECIPIENTS_LIMIT = 100

HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _plain(problem_of: Callable[[str], str | None]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if (problem := problem_of(value)) is not None:
            raise ValueError(problem)
        return value

    return check


Text = Annotated[str, StringConstraints(min_length=1)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$")]
HeaderValue = Annotated[str, StringConstraints(max_length=16_384)]
Address = Annotated[str, StringConstraints(max_length=320), AfterValidator(_plain(address_problem))]
Subject = Annotated[str, StringConstraints(max_length=16_384), AfterValidator(_plain(subject_problem))]
Status = Annotated[int, Field(ge=100, le=599)]


class Arguments(BaseModel):
    """Base of all arguments: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HttpRequest(Arguments):
    """`http.request`: one request, at most one of `json` and `body`. `expect`: the statuses that mean success."""

    url: Annotated[str, StringConstraints(max_length=URL_LIMIT_CHARS), AfterValidator(_plain(url_problem))]
    method: str = "GET"
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, max_length=HEADERS_LIMIT)
    json_: Any = Field(None, alias="json")
    body: str | None = None
    expect: Status | list[Status] | None = None

    @field_validator("headers")
    @classmethod
    def _sendable_headers(cls, value: dict[str, str]) -> dict[str, str]:
        if (problem := headers_problem(value)) is not None:
            raise ValueError(problem)
        return value

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value.upper() not in HTTP_METHODS:
            raise ValueError(f"must be one of {', '.join(HTTP_METHODS)}")
        return value.upper()

    @model_validator(mode="after")
    def _one_body(self) -> HttpRequest:
        if self.body is not None and "json_" in self.model_fields_set:
            raise ValueError("json and body exclude each other")
        return self

    def expected(self, status: int) -> bool:
        """Whether the status means success; without `expect`, every 2xx does."""
        if self.expect is None:
            return 200 <= status < 300
        return status in (self.expect if isinstance(self.expect, list) else [self.expect])


class ShellRun(Arguments):
    """`shell.run`: a program and its arguments; no shell interprets them."""

    command: list[Text] = Field(min_length=1, max_length=COMMAND_LIMIT)
    env: dict[Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")], str] = Field(default_factory=dict)
    cwd: Text | None = None
    stdin: str | None = None


class EmailSend(Arguments):
    """`email.send`: a message through the configured SMTP server. `text`, `html` or both."""

    to: Address | list[Address]
    cc: list[Address] = Field(default_factory=list, max_length=RECIPIENTS_LIMIT)
    bcc: list[Address] = Field(default_factory=list, max_length=RECIPIENTS_LIMIT)
    subject: Subject
    text: str | None = None
    html: str | None = None
    from_: Address | None = Field(None, alias="from")
    reply_to: Address | None = None

    @model_validator(mode="after")
    def _has_content(self) -> EmailSend:
        if self.text is None and self.html is None:
            raise ValueError("text or html is needed")
        if isinstance(self.to, list) and not 1 <= len(self.to) <= RECIPIENTS_LIMIT:
            raise ValueError(f"to takes 1 to {RECIPIENTS_LIMIT} addresses")
        return self

    def recipients(self) -> list[str]:
        """Everybody who gets it."""
        return [*(self.to if isinstance(self.to, list) else [self.to]), *self.cc, *self.bcc]


class EventPublish(Arguments):
    """`event.publish`: a CloudEvents 1.0 event into the log. `id` follows from the job unless it is given."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    subject: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    data: Any = None

    @field_validator("type", "source", "subject", "id")
    @classmethod
    def _string(cls, value: str | None) -> str | None:
        problem = None if value is None else string_problem(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("source")
    @classmethod
    def _reference(cls, value: str) -> str:
        if not is_uri_reference(value):
            raise ValueError("must be a URI-reference (RFC 3986)")
        return value


_MODELS: dict[str, type[Arguments]] = {
    "http.request": HttpRequest,
    "shell.run": ShellRun,
    "email.send": EmailSend,
    "event.publish": EventPublish,
}
BUILTIN_TASKS: frozenset[str] = frozenset(_MODELS)


def parse_arguments(task: str, args: Mapping[str, Any]) -> Arguments:
    """The checked arguments of a built-in task. Raises Rejected that names the first wrong field (`args.url`)."""
    _refuse_unwritable(args, "args")
    try:
        return _MODELS[task].model_validate(dict(args))
    except ValidationError as error:
        raise _invalid(task, error.errors(include_url=False, include_context=False, include_input=False)[0]) from None


def check_arguments(task: str, args: Mapping[str, Any], unknown: Collection[tuple[str, ...]] = ()) -> None:
    """Raise Rejected when a built-in task cannot take these arguments.

    What stands at one of the places `unknown` comes only with predecessors' results, and is checked then.
    """
    _refuse_unwritable(args, "args")
    try:
        _MODELS[task].model_validate(dict(args))
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=False, include_input=False):
            place = tuple(str(part) for part in found["loc"] if not _is_branch(part))
            if not any(place[: len(prefix)] == prefix or prefix[: len(place)] == place for prefix in unknown):
                raise _invalid(task, found) from None


def _invalid(task: str, found: Mapping[str, Any]) -> Rejected:
    path = ".".join(["args", *(str(part) for part in found["loc"] if not _is_branch(part))])
    message = found["msg"].removeprefix("Value error, ")
    return Rejected(f"{task}: {path}: {message}", field=path, code="invalid-argument")


def check_templated_arguments(task: str, args: Mapping[str, Any], holes: Collection[tuple[str, ...]]) -> None:
    """As `check_arguments`, where the places in `holes` are not known yet.

    They may be anything, and so may what depends on them.
    """
    _refuse_unwritable(args, "args")
    try:
        _MODELS[task].model_validate(dict(args))
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=False, include_input=False):
            place = tuple(str(part) for part in found["loc"] if not _is_branch(part))
            if any(all(a == b for a, b in zip(hole, place, strict=False)) for hole in holes):
                continue
            path = ".".join(["args", *place])
            message = found["msg"].removeprefix("Value error, ")
            raise Rejected(f"{path}: {message}", field=path, code="invalid-argument") from None


def _is_branch(part: object) -> bool:
    """Whether the part of a location names a branch of a union instead of a field."""
    return isinstance(part, str) and ("[" in part or part in ("int", "str", "constrained-int", "constrained-str"))


def _refuse_unwritable(value: Any, path: str) -> None:
    """No NUL and no lone surrogate in any text: neither programs nor databases take them."""
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise Rejected(f"{path} contains a NUL or a lone surrogate", field=path, code="invalid-text")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_unwritable(key, path)
            _refuse_unwritable(part, f"{path}.{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_unwritable(part, f"{path}.{index}")
