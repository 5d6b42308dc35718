"""The settings of every role: environment variables with the prefix `ROTA_`, or a `.env` file.

A secret may also be read from a file: `ROTA_DATABASE_URL_FILE` names a file that holds `ROTA_DATABASE_URL`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rota_server.adapters.postgres.address import PostgresAddress
from rota_server.adapters.redis.address import RedisAddress
from rota_server.apps.api_tokens import ApiToken, parse_tokens
from rota_server.domain.errors import WrongSetting

PREFIX = "ROTA_"
ADDRESSES = ("database_url", "listen_database_url", "owner_database_url")
SECRET_FIELDS = (*ADDRESSES, "redis_url", "api_tokens", "smtp_password", "zookeeper_auth")

QUEUE_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What a role may be told. Lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore")

    database_url: str | None = Field(None, description="PostgreSQL, as the application's role")
    listen_database_url: str | None = Field(
        None,
        description="PostgreSQL's own address, where `ROTA_DATABASE_URL` is a pooler without sessions",
    )
    owner_database_url: str | None = Field(None, description="PostgreSQL, as the role that may migrate")
    redis_url: str | None = Field(None, description="Redis 7 or Valkey 8")
    zookeeper_hosts: str | None = Field(None, description="host:port,...[/chroot]; without it PostgreSQL coordinates")
    zookeeper_auth: str | None = Field(None, description="user:password of ZooKeeper's digest scheme")
    host: str = Field("127.0.0.1", description="address on which the store listens")
    port: int = Field(3000, ge=0, le=65535, description="port on which the store listens; 0 for any free one")
    api_tokens: Annotated[tuple[ApiToken, ...], NoDecode, BeforeValidator(parse_tokens)] = Field(
        (), description="bearer tokens, each `name:secret` or just the secret"
    )
    insecure: bool = Field(False, description="listen beyond loopback without tokens")
    allowed_hosts: Words = Field((), description="further host names of a store without tokens; `*`: any")
    data_dir: Path = Field(Path(".rota"), description="where `rota up` keeps its data; clients find it by this, too")
    tasks: Words = Field((), description="modules or files with Python tasks")
    python: str | None = Field(None, description="interpreter of the task processes; by default Rota's own")
    task_processes: int | None = Field(
        None, ge=1, le=256, description="task processes of one executor; by default one a core"
    )
    queues: Words = Field(
        ("default",), description="queues that an executor serves; unless set, those that its tasks name as well"
    )
    concurrency: int = Field(100, ge=1, le=10_000, description="slots of one executor")
    allow_shell: bool = Field(False, description="whether this executor runs shell.run")
    http_refuse_private: bool = Field(False, description="whether http.request and webhooks refuse private addresses")
    unknown_tasks: str = Field(
        "reject",
        pattern="^(reject|accept)$",
        description="whether a job whose task no executor announced is refused (reject) or taken (accept)",
    )
    secrets_dir: Path | None = Field(None, description="folder with a file for each secret that jobs may name")
    secrets_command: str | None = Field(None, description="prints the secret whose name is its last argument")
    secrets_allow: Words = Field((), description="who may use which secret: SECRET:TASK or SECRET:TASK@QUEUE")
    task_user: str | None = Field(None, description="account under which a root executor runs tasks and shell.run")
    smtp_host: str | None = Field(None, description="mail server of `email.send`; without it that task fails")
    smtp_port: int = Field(587, ge=1, le=65535, description="its port")
    smtp_username: str | None = Field(None, description="the account there")
    smtp_password: str | None = Field(None, description="the account's password")
    smtp_tls: str = Field("starttls", pattern="^(none|starttls|tls)$", description="none, starttls or tls")
    smtp_from: str | None = Field(None, description="sender of mails that name none")
    drain_seconds: float = Field(30, ge=0, le=3600, description="how long a stop waits for running attempts")
    metrics_port: int | None = Field(None, ge=0, le=65535, description="loopback port for a role's /metrics")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("tasks", "queues", "secrets_allow", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("queues", mode="after")
    @classmethod
    def _are_queues(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no job can name: an executor that serves it would wait forever without a word."""
        for name in names:
            if not QUEUE_NAME.fullmatch(name):
                hint = "; patterns are not served, name each queue" if "*" in name else ""
                raise ValueError(f"{name!r} is no queue: 1 to 100 letters, digits, '.', '_' and '-'{hint}")
        return names

    def require(self, name: str) -> str:
        """The setting `name`, or SystemExit with status 2 and a message that says how to give it."""
        value = getattr(self, name)
        if not value:
            raise SystemExit(
                _usage(f"{PREFIX}{name.upper()} is not set (or use `rota up`, which brings its own servers)")
            )
        return str(value)

    def with_password(self, password: str) -> Settings:
        """These settings, with the password in each address of PostgreSQL that has none."""
        changed = {}
        for name in ADDRESSES:
            text = getattr(self, name)
            address = PostgresAddress.parse(text, setting=f"{PREFIX}{name.upper()}") if text else None
            if address is not None and address.password is None and address.user is not None:
                changed[name] = address.as_user(address.user, password).url()
        return self.model_copy(update=changed)

    def masked(self) -> dict[str, Any]:
        """All settings for people to read; secrets are masked."""
        shown: dict[str, Any] = {}
        for name, value in self.model_dump(mode="json").items():
            shown[name] = masked_secret(name, str(value)) if value and name in SECRET_FIELDS else value
        return shown


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, `.env` and `*_FILE`; keyword arguments that are not None win."""
    from_files = {}
    for name in Settings.model_fields:
        path = os.environ.get(f"{PREFIX}{name.upper()}_FILE")
        if path and not os.environ.get(f"{PREFIX}{name.upper()}"):
            try:
                from_files[name] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SystemExit(_usage(f"{PREFIX}{name.upper()}_FILE: {error}")) from error
            if not from_files[name]:  # a secret that got lost must not open what it was to guard
                raise SystemExit(_usage(f"{PREFIX}{name.upper()}_FILE: {path} is empty"))
    given = {name: value for name, value in overrides.items() if value is not None}
    return Settings(**{**from_files, **given})


def masked_secret(name: str, value: str) -> str:
    """A secret setting for people to read: of an address all but the passwords."""
    try:
        if name in ADDRESSES:
            return str(PostgresAddress.parse(value))
        return str(RedisAddress.parse(value)) if name == "redis_url" else "***"
    except WrongSetting:
        return "***"  # what is no address may be a password in the wrong place


def _usage(message: str) -> int:
    import sys  # noqa: PLC0415 - only on the way out

    print(message, file=sys.stderr)  # noqa: T201 - the last words before the exit
    return 2
