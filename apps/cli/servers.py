"""`rota migrate` and `rota doctor`."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from rota_server.adapters.postgres.address import PostgresAddress
from rota_server.adapters.postgres.blocks import blocks
from rota_server.adapters.postgres.connection import Database
from rota_server.adapters.postgres.migrate import expected_revision, forget_term, migrate, older_than
from rota_server.adapters.postgres.roles import APP_ROLE, KINDS, role_of
from rota_server.adapters.postgres.server_info import Facts, connection_room, database_facts
from rota_server.adapters.redis.address import RedisAddress
from rota_server.adapters.redis.server_info import redis_facts, streams_beyond
from rota_server.apps.cli.output import Failure, print_fields, print_json, say
from rota_server.apps.connections import CONNECTIONS
from rota_server.apps.coordination import coordination_for
from rota_server.apps.settings import Settings
from rota_server.domain.errors import Refused, RotaError, Unavailable, WrongSetting
from rota_server.domain.events import unreadable_types
from rota_server.domain.ids import Position

DATABASE_URL = "database_url"
"""The file with the address of the database, in the folder of each kind of process."""

CLOCK_LIMIT_SECONDS = 1.0
POSTGRES_FLOOR = 15
CHECK_SECONDS = 10.0


def migrate_database(settings: Settings, *, wait_seconds: float, reset_term: bool, roles: Path | None = None) -> int:
    """Migrate as the owner, and give the roles their passwords: the application's, and each kind's in the folder."""
    owner_url = settings.require("owner_database_url")
    try:
        owner = PostgresAddress.parse(owner_url, setting="ROTA_OWNER_DATABASE_URL")
        given = settings.database_url if roles is not None else settings.require("database_url")
        address = PostgresAddress.parse(given) if given else owner
        if roles is None and not address.password:
            raise Failure("ROTA_DATABASE_URL carries no password for the application's role", status=2)
        passwords = {} if roles is None else keep_addresses(roles, address)
        # The application's role keeps its password, unless there is one here.
        app_password = address.password if address.user == APP_ROLE or roles is None else None
        url = asyncio.run(_patiently(lambda: migrate(owner_url, app_password, passwords), wait_seconds))
        if reset_term:
            asyncio.run(forget_term(owner_url))
            say("Terms begin again.")
    except WrongSetting as error:
        raise Failure(str(error), status=2) from error
    except (RotaError, OSError, ValueError) as error:
        raise Failure(str(error)) from error
    if roles is None:
        say(f"The schema is at revision {expected_revision()}; services connect as {PostgresAddress.parse(url)}")
        say("To give each kind of process a role with fewer rights: rota migrate --roles FOLDER")
        return 0
    say(f"The schema is at revision {expected_revision()}; each kind of process has its own ROTA_DATABASE_URL_FILE:")
    for kind in passwords:
        say(f"  {kind}: {roles / kind / DATABASE_URL}")
    return 0


def keep_addresses(folder: Path, address: PostgresAddress) -> dict[str, str]:
    """The password of each kind's role, as its file in the folder says; files that are missing are made."""
    passwords = {}
    for kind in KINDS:
        path = folder / kind / DATABASE_URL
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            own = address.as_user(role_of(kind), secrets.token_urlsafe(24))
            fresh = path.with_name(f"{path.name}.new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{own.url()}\n")
            fresh.replace(path)
        kept = PostgresAddress.parse(path.read_text(encoding="utf-8").strip(), setting=str(path))
        if kept.user != role_of(kind) or not kept.password:
            raise WrongSetting(f"{path}: not an address of the role {role_of(kind)} with its password")
        passwords[kind] = kept.password
    return passwords


async def _patiently(attempt: Callable[[], Awaitable[str]], wait_seconds: float) -> str:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return await attempt()
        except Refused:
            raise
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


def doctor(settings: Settings, *, as_json: bool) -> int:
    """Settings and checks; status 1 when a check fails."""
    checks = asyncio.run(_checks(settings))
    good = all(check["ok"] for check in checks.values())
    if as_json:
        print_json({"settings": settings.masked(), "checks": checks, "ok": good})
    else:
        print_fields(settings.masked())
        say()
        for name, check in checks.items():
            say(f"{_mark(check)}  {name}: {check['message']}")
    return 0 if good else 1


def _mark(check: Mapping[str, Any]) -> str:
    if not check["ok"]:
        return "BAD"
    return "!!!" if check.get("warning") else "ok "


async def _checks(settings: Settings) -> dict[str, dict[str, Any]]:
    checks = {
        "postgres": await _guarded(lambda: _postgres(settings)),
        "redis": await _guarded(lambda: _redis(settings)),
    }
    database_url, redis_url = settings.database_url, settings.redis_url
    if database_url and redis_url and checks["postgres"]["ok"] and checks["redis"]["ok"]:
        checks["streams"] = await _guarded(lambda: _streams(settings, database_url, redis_url))
    if database_url and checks["postgres"]["ok"]:
        checks["connections"] = await _guarded(lambda: _connections(settings, database_url))
    if settings.zookeeper_hosts:
        checks["zookeeper"] = await _guarded(lambda: _zookeeper(settings))
    return checks


class _Warning(str):
    """What is well now and may not stay so."""

    __slots__ = ()


async def _guarded(check: Callable[[], Awaitable[str]]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            message = await check()
            warning = {"warning": True} if isinstance(message, _Warning) else {}
            return {"ok": True, "message": str(message), **warning}
    except TimeoutError:
        return {"ok": False, "message": f"no answer within {CHECK_SECONDS:.0f} s"}
    except (RotaError, OSError) as error:
        return {"ok": False, "message": str(error)}


async def _postgres(settings: Settings) -> str:
    if settings.database_url is None:
        return "ROTA_DATABASE_URL is not set; `rota up` brings its own"
    database = _database(settings, settings.database_url)
    try:
        await database.prove_access()
        facts: Facts = await database_facts(database)
        obstacles = await blocks(database)
    finally:
        await database.close()
    skew = facts.clock - time.time()
    problems = [str(block) for block in obstacles]
    if facts.major < POSTGRES_FLOOR:
        problems.append(f"version {facts.version} is older than {POSTGRES_FLOOR}")
    if older_than(facts.revision, expected_revision()):
        problems.append(f"schema revision {facts.revision or 'none'}, {expected_revision()} is needed: rota migrate")
    if abs(skew) > CLOCK_LIMIT_SECONDS:
        problems.append(f"its clock differs from this machine's by {skew:.3f} s")
    if facts.fsync != "on" or facts.synchronous_commit == "off":
        problems.append("fsync or synchronous_commit is off: accepted jobs could be lost")
    if unknown := unreadable_types(facts.event_schemas):
        problems.append(f"recent events that this version cannot read: {', '.join(unknown)}; their jobs wait")
    if problems:
        raise Unavailable("; ".join(problems), server="postgres")
    return (
        f"{database.address}: version {facts.version}, revision {facts.revision}, "
        f"clock skew {skew * 1000:.0f} ms, last position {facts.last_position}"
    )


def _database(settings: Settings, url: str) -> Database:
    return Database(url, pool_size=1, application="rota-doctor", direct_url=settings.listen_database_url)


async def _redis(settings: Settings) -> str:
    if settings.redis_url is None:
        return "ROTA_REDIS_URL is not set; `rota up` brings its own"
    facts = await redis_facts(settings.redis_url)
    skew = facts["clock"] - time.time()
    if abs(skew) > CLOCK_LIMIT_SECONDS:
        raise Unavailable(f"its clock differs from this machine's by {skew:.3f} s", server="redis")
    policy = facts["maxmemory_policy"]
    if policy not in ("noeviction", "unknown"):
        raise Unavailable(f"maxmemory-policy is {policy}: it may evict work; use noeviction", server="redis")
    address = RedisAddress.parse(settings.redis_url)
    return f"{address}: {facts['server']} {facts['version']}, clock skew {skew * 1000:.0f} ms"


async def _streams(settings: Settings, database_url: str, redis_url: str) -> str:
    """Nothing in Redis may lie beyond the log: it would keep what follows out of its stream."""
    database = _database(settings, database_url)
    try:
        # Read after Redis was, so that what is published in between does not look like a lead.
        suspects = await streams_beyond(redis_url, Position((await database_facts(database)).last_position))
        end = (await database_facts(database)).last_position if suspects else 0
        found = await streams_beyond(redis_url, Position(end)) if suspects else []
    finally:
        await database.close()
    if found:
        raise Unavailable(
            f"{', '.join(found)} end beyond the log: another program writes there (the relay removes that when it "
            "meets it), or this Redis belongs to another database",
            server="redis",
        )
    return "none ends beyond the log"


async def _connections(settings: Settings, database_url: str) -> str:
    """Compare what the processes that run may open with what PostgreSQL has room for."""
    database = _database(settings, database_url)
    try:
        room = await connection_room(database)
        async with coordination_for(settings, database) as coordination:
            running = {role: len(await coordination.members(role)) for role in CONNECTIONS}
        pooled = database.without_sessions
    finally:
        await database.close()
    needed = sum(
        count * (CONNECTIONS[role].direct if pooled else CONNECTIONS[role].most) for role, count in running.items()
    )
    who = ", ".join(_counted(count, role) for role, count in running.items() if count) or "no process"
    told = (
        f"{who}: {'besides the pooler ' if pooled else ''}up to {needed} connections, {room.ours} now; others hold "
        f"{room.others}; room for {room.most}"
    )
    if needed + room.others > room.most:
        return _Warning(f"{told}. They may be used up: raise max_connections, or see docs/servers.md")
    return told


def _counted(count: int, role: str) -> str:
    return f"{count} {role}{'' if count == 1 else 's'}"


async def _zookeeper(settings: Settings) -> str:
    from rota_server.adapters.zookeeper.server_info import zookeeper_facts

    version = await zookeeper_facts(settings.require("zookeeper_hosts"), settings.zookeeper_auth)
    return f"{settings.zookeeper_hosts}: version {version}"
