"""The service on a socket: requests and answers as JSON, one a line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from rpaccel.errors import QueryError
from rpaccel.models import FeaturesConfig
from rpaccel.serve.service import Answer, Service
from sw_model.query import Query

__all__ = ["LINE_BYTES", "Server", "parse_query"]

log = logging.getLogger(__name__)

LINE_BYTES = 1 << 24
"""Longest request."""


def parse_query(features: FeaturesConfig, values: Any) -> Query:
    """Make a query of JSON values; the driver checks its ranges.

    Parameters
    ----------
    features : FeaturesConfig
    values : dict
        ``dense_query``: a list, ``dense_item``: a list for each item, ``indices``: by table a list
        of rows (scope ``query``), or one for each item. What there is none of may be missing.

    Raises
    ------
    QueryError
        Values are missing, of another form, or of different numbers of items.
    """
    if not isinstance(values, dict) or not isinstance(values.get("indices"), dict):
        raise QueryError("query must be an object with indices, an object of lists by table")
    unknown = set(values) - {"dense_query", "dense_item", "indices"}
    if unknown:
        raise QueryError(f"query has unknown keys: {', '.join(sorted(unknown))}")
    indices, items = {}, None
    for table in features.tables:
        name = f"indices.{table.name}"
        if table.name not in values["indices"]:
            raise QueryError(f"{name} is missing")
        rows = _integers(name, values["indices"][table.name])
        per_item = table.scope == "item"
        if rows.ndim != 1 + per_item or rows.shape[-1] != table.lookups:
            form = f"{table.lookups} rows" + (" for each item" if per_item else "")
            raise QueryError(f"{name} must be {form}, not of shape {rows.shape}")
        if per_item:
            if items not in (None, len(rows)):
                raise QueryError(f"{name} has {len(rows)} items, tables before it {items}")
            items = len(rows)
        indices[table.name] = rows
    extra = set(values["indices"]) - set(indices)
    if extra:
        raise QueryError(f"indices names no table of the features: {', '.join(sorted(extra))}")
    dense_item = values.get("dense_item", [[]] * (items or 0))
    items = len(dense_item) if items is None and isinstance(dense_item, list) else items
    return Query(
        _dense("dense_query", values.get("dense_query", []), (features.dense_query,)),
        _dense("dense_item", dense_item, (items or 0, features.dense_item)),
        indices,
        items or 0,
    )


def _integers(name: str, values: Any) -> np.ndarray:
    try:
        found = np.array(values)
    except ValueError:
        raise QueryError(f"{name}: lists must be of equal length") from None
    if found.size and found.dtype.kind != "i":
        raise QueryError(f"{name} must be lists of integers, not {values!r:.40}")
    return found.astype(np.int64)


def _dense(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = _integers(name, values)
    if not found.size and not np.prod(shape):
        return np.empty(shape, np.int8)
    if found.shape != shape:
        raise QueryError(f"{name} must be of shape {shape}, not {found.shape}")
    if found.min() < -128 or found.max() > 127:
        raise QueryError(f"{name} must be int8, -128..127, not {found.min()}..{found.max()}")
    return found.astype(np.int8)


class Server:
    """Takes requests from connections and answers each, in the order of completion.

    A request is ``{"id": ..., "query": {...}}`` (see :func:`parse_query`) or
    ``{"id": ..., "sample": n}``, one of the samples, with ``"deadline_ms"`` if wanted;
    ``{"id": ..., "stats": true}`` asks for :meth:`Service.stats`. An answer has the ``id``,
    ``status`` and ``latency_ms``, and ``positions`` and ``scores`` or a ``reason``; a request that
    makes no sense gets ``refused``.

    A connection may have so many requests under way; further ones are not read before these are
    answered.

    Parameters
    ----------
    service : Service
    features : FeaturesConfig
    samples : sequence of Query
    window : int
    """

    def __init__(
        self,
        service: Service,
        features: FeaturesConfig,
        samples: Sequence[Query] = (),
        *,
        window: int = 256,
    ) -> None:
        self.service = service
        self._features = features
        self._samples = samples
        self._window = window

    async def start(self, host: str, port: int) -> asyncio.Server:
        """Listen; port 0 is any free one."""
        return await asyncio.start_server(self._connected, host, port, limit=LINE_BYTES)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = asyncio.Semaphore(self._window)
        tasks: set[asyncio.Task[None]] = set()

        async def answer(line: bytes) -> None:
            try:
                reply = await self._reply(line)
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
            except ConnectionError:  # the client is gone; its query was run and counted
                log.debug("a client left before its answer")
            finally:
                room.release()

        try:
            while True:
                await room.acquire()
                try:
                    line = await reader.readline()
                except ValueError:
                    reason = f"a line of more than {LINE_BYTES} bytes"
                    writer.write(json.dumps(_refused(None, reason)).encode() + b"\n")
                    break
                if not line:
                    break
                task = asyncio.create_task(answer(line))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
            await writer.drain()
        except ConnectionError:
            log.debug("a client left")
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        number = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise QueryError("a request must be an object")
            number = request.get("id")
            if request.get("stats"):
                return {"id": number, "stats": self.service.stats()}
            query = self._query(request)
            deadline = request.get("deadline_ms")
            if deadline is not None and not (
                isinstance(deadline, int | float) and not isinstance(deadline, bool)
            ):
                raise QueryError(f"deadline_ms must be a number, not {deadline!r:.40}")
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            return _refused(number, f"not valid JSON: {error}")
        except QueryError as error:
            return _refused(number, str(error))
        return _answered(
            number,
            await self.service.submit(
                query, deadline=None if deadline is None else float(deadline) / 1e3
            ),
        )

    def _query(self, request: dict[str, Any]) -> Query:
        sample = request.get("sample")
        if sample is None:
            return parse_query(self._features, request.get("query"))
        if isinstance(sample, bool) or not isinstance(sample, int):
            raise QueryError(f"sample must be a number, not {sample!r:.40}")
        if not 0 <= sample < len(self._samples):
            raise QueryError(f"sample must be 0..{len(self._samples) - 1}, not {sample}")
        return self._samples[sample]


def _refused(number: Any, reason: str) -> dict[str, Any]:
    return {"id": number, "status": "refused", "reason": reason}


def _answered(number: Any, answer: Answer) -> dict[str, Any]:
    reply = {"id": number, "status": answer.status.value, "latency_ms": answer.latency * 1e3}
    if answer.ranking is None:
        return {**reply, "reason": answer.reason}
    return {
        **reply,
        "positions": answer.ranking.positions.tolist(),
        "scores": answer.ranking.scores.tolist(),
    }
