"""A seeded generator of Nexmark events, in columns: ``python -m topologies.nexmark.generator``.

Follows the reference (github.com/nexmark/nexmark, package ``generator``) and its defaults:

- Of each 50 events the first is a person, the next 3 are auctions, the other 46 are bids; all kinds
  are numbered from 1000. Event k happens k / (events a second) seconds after the start, in order.
- Half of the bids go to the hot auction, the first of each 100; the others to one of the last 100, or
  to one of 10 that are still to come. On the average an auction lasts until 100 more are open.
- Three of four bids come from the hot bidder, the second of each 100 people; the others from one of the
  last 1000 people or of 10 to come. Sellers likewise, their hot one is the first of each 100.
- Prices are spread evenly over their logarithms, from 1 to 1,000,000 in hundredths.
- Half of the bids come by one of four hot channels, the others by one of 10,000, of which nine in ten
  have their id in their URL. ``extra`` brings people to 200, auctions to 500 and bids to 100 bytes.

Names are in small letters and texts of fixed length, as in data/nexmark/. Unlike the reference's,
event k depends on the seed and k only (see draws.py), and texts draw their letters almost evenly.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cramjam
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from topologies.nexmark.draws import Draws, Int64s
from topologies.nexmark.events import KINDS, NexmarkEvent

START = 1_767_225_600_000
"""2026-01-01, in milliseconds since 1970."""
EVENTS_A_SECOND = 10_000
BLOCK = 50_000
"""Events that are made and written at a time."""
SUFFIXES = (".jsonl", ".jsonl.zst", ".parquet")

_COLUMNS = {
    name: pl.Int64 if field.annotation in (int, int | None) else pl.String
    for name, field in NexmarkEvent.model_fields.items()
}
_EVENTS, _AUCTIONS = 50, 3
_FIRST_ID = 1000
_HOT = 100
_LEAD = 10
_IN_FLIGHT = 100
_ACTIVE_PEOPLE = 1000
_CHANNELS = 10_000
_SIZES = {"person": 200, "auction": 500, "bid": 100}
_HOT_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
_STATES = ("az", "ca", "id", "or", "wa", "wy")
_CITIES = (
    "phoenix", "los angeles", "san francisco", "boise", "portland", "bend", "redmond", "seattle", "kent",
    "cheyenne",
)  # fmt: skip
_FIRST_NAMES = (
    "peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter", "walter",
)  # fmt: skip
_LAST_NAMES = ("shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris")


def events(
    count: int,
    seed: int,
    *,
    start: int = START,
    events_a_second: int = EVENTS_A_SECOND,
    first: int = 0,
) -> pl.DataFrame:
    """Events number *first* to *first* + *count* - 1 of the stream of *seed*, with all columns of the model.

    *start* is the time of event 0 in milliseconds since 1970. An event depends on no other argument
    than seed, start and events_a_second.
    """
    numbers = np.arange(first, first + count, dtype=np.int64)
    place = numbers % _EVENTS
    kinds = {"person": place == 0, "auction": (place > 0) & (place <= _AUCTIONS), "bid": place > _AUCTIONS}
    make = {"person": _people, "auction": _auctions, "bid": _bids}
    frames = []
    for kind, chosen in kinds.items():
        some = numbers[chosen]
        frame = make[kind](Draws(seed, some), start, events_a_second)
        frames.append(frame.with_columns(number=some, event=pl.lit(kind)))
    mixed = pl.concat(frames, how="diagonal").sort("number")
    return mixed.select(pl.col(name).cast(dtype) for name, dtype in _COLUMNS.items())


def json_lines(frame: pl.DataFrame) -> bytes:
    """*frame* as one JSON document a line, each with the fields of its kind only."""
    numbered = frame.with_row_index("number")
    parts = [
        numbered.filter(pl.col("event") == kind).select(
            "number", line=pl.struct("event", *columns).struct.json_encode() + "\n"
        )
        for kind, columns in KINDS.items()
    ]
    text: str = pl.concat(parts).sort("number")["line"].str.join("").item()
    return text.encode()


def write(path: Path, blocks: Iterator[pl.DataFrame]) -> None:
    """Write *blocks* one after the other to *path*, whose suffix is one of :data:`SUFFIXES`.

    The file is there under its name only when it is complete.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        if path.name.endswith(".parquet"):
            _write_parquet(aside, blocks)
        else:
            with aside.open("wb") as file:
                (_write_zstd if path.name.endswith(".zst") else _write_lines)(file, blocks)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _people(draws: Draws, start: int, events_a_second: int) -> pl.DataFrame:
    digits = [draws.below(f"card {group}", 10_000) for group in range(4)]
    card = [pl.Series(group).cast(pl.String).str.zfill(4) for group in digits]
    frame = pl.DataFrame(
        {
            "id": _FIRST_ID + _last_person(draws.events),
            "name": draws.one_of("first name", _FIRST_NAMES) + " " + draws.one_of("last name", _LAST_NAMES),
            "email_address": draws.letters("mailbox", 7) + "@" + draws.letters("domain", 5) + ".com",
            "credit_card": card[0] + " " + card[1] + " " + card[2] + " " + card[3],
            "city": draws.one_of("city", _CITIES),
            "state": draws.one_of("state", _STATES),
            "date_time": _times(draws.events, start, events_a_second),
        }
    )
    return _with_extra(frame, draws, "person")


def _auctions(draws: Draws, start: int, events_a_second: int) -> pl.DataFrame:
    times = _times(draws.events, start, events_a_second)
    ahead = _IN_FLIGHT * _EVENTS // _AUCTIONS
    horizon = _times(draws.events + ahead, start, events_a_second) - times
    initial_bid = _prices(draws, "initial bid")
    frame = pl.DataFrame(
        {
            "id": _FIRST_ID + _last_auction(draws.events),
            "item_name": draws.letters("item", 20),
            "description": draws.letters("description", 100),
            "initial_bid": initial_bid,
            "reserve": initial_bid + _prices(draws, "reserve"),
            "date_time": times,
            "expires": times + 1 + draws.below("length", np.maximum(2 * horizon, 1)),
            "seller": _FIRST_ID + _people_ids(draws, "seller", 0),
            "category": 10 + draws.below("category", 5),
        }
    )
    return _with_extra(frame, draws, "auction")


def _bids(draws: Draws, start: int, events_a_second: int) -> pl.DataFrame:
    last = _last_auction(draws.events)
    oldest = np.maximum(last - _IN_FLIGHT, 0)
    cold = oldest + draws.below("auction", last - oldest + 1 + _LEAD)
    hot_channel = _CHANNELS + draws.below("hot channel", len(_HOT_CHANNELS))
    other_channel = draws.below("channel", _CHANNELS)
    channel = np.where(draws.below("channel is hot", 2) > 0, hot_channel, other_channel)
    names, urls = _channels(draws.seed)
    frame = pl.DataFrame(
        {
            "auction": _FIRST_ID + np.where(draws.below("auction is hot", 2) > 0, last // _HOT * _HOT, cold),
            "bidder": _FIRST_ID + _people_ids(draws, "bidder", 1),
            "price": _prices(draws, "price"),
            "channel": names[channel],
            "url": urls[channel],
            "date_time": _times(draws.events, start, events_a_second),
        }
    )
    return _with_extra(frame, draws, "bid")


def _channels(seed: int) -> tuple[pl.Series, pl.Series]:
    """Names and URLs of all channels, the hot ones last. An id is the channel's number, its bits reversed."""
    numbers = np.arange(_CHANNELS + len(_HOT_CHANNELS))
    draws = Draws(seed, numbers)
    parts = [draws.letters(f"path {n}", 4, 3 + draws.below(f"path length {n}", 2)) for n in range(3)]
    bits = np.unpackbits(numbers.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    ids = np.abs(np.packbits(bits[:, ::-1], axis=1).view(">i4")[:, 0].astype(np.int64))
    told = (draws.below("URL has an id", 10) > 0) & (numbers < _CHANNELS)
    url = "https://www.nexmark.com/" + parts[0] + "/" + parts[1] + "/" + parts[2] + "/item.htm?query=1"
    told_url = url + "&channel_id=" + pl.Series(ids).cast(pl.String)
    names = "channel-" + pl.Series(numbers[:_CHANNELS]).cast(pl.String)
    return names.extend(pl.Series(_HOT_CHANNELS)), told_url.zip_with(pl.Series(told), url)


def _with_extra(frame: pl.DataFrame, draws: Draws, kind: str) -> pl.DataFrame:
    """*frame* with ``extra``: letters that bring an event to its size, a fifth of what is left more or less.

    A number counts 8 bytes; channel and URL came into the benchmark after the sizes and don't count.
    """
    size = _SIZES[kind]
    room = np.full(frame.height, size)
    for name, dtype in frame.schema.items():
        if name not in ("channel", "url"):
            room -= 8 if dtype == pl.Int64 else frame[name].str.len_bytes().to_numpy().astype(np.int64)
    spread = (2 * room + 5) // 10
    lengths = room - spread + draws.below(f"{kind} extra length", 2 * spread)
    return frame.with_columns(extra=draws.letters(f"{kind} extra", size * 6 // 5, lengths))


def _people_ids(draws: Draws, role: str, hot: int) -> Int64s:
    """Who bids or sells: with 3 to 1 number *hot* of the last hundred people, or any active one."""
    people = _last_person(draws.events) + 1
    active = np.minimum(people, _ACTIVE_PEOPLE)
    other = people - active + draws.below(role, active + _LEAD)
    return np.where(draws.below(f"{role} is hot", 4) > 0, (people - 1) // _HOT * _HOT + hot, other)


def _last_person(events: Int64s) -> Int64s:
    """The newest person when *events* happen, from 0."""
    return events // _EVENTS


def _last_auction(events: Int64s) -> Int64s:
    """The newest auction when *events* (auctions and bids) happen, from 0."""
    return events // _EVENTS * _AUCTIONS + np.minimum(events % _EVENTS, _AUCTIONS) - 1


def _prices(draws: Draws, name: str) -> Int64s:
    return np.rint(np.power(10.0, draws.unit(name) * 6.0) * 100.0).astype(np.int64)


def _times(events: Int64s, start: int, events_a_second: int) -> Int64s:
    return start + events * 1000 // events_a_second


def _write_lines(file: BinaryIO, blocks: Iterator[pl.DataFrame]) -> None:
    for block in blocks:
        file.write(json_lines(block))


def _write_zstd(file: BinaryIO, blocks: Iterator[pl.DataFrame]) -> None:
    compressor = cramjam.zstd.Compressor()
    for block in blocks:
        compressor.compress(json_lines(block))
        file.write(compressor.flush())
    file.write(compressor.finish())


def _write_parquet(path: Path, blocks: Iterator[pl.DataFrame]) -> None:
    schema = pl.DataFrame(schema=_COLUMNS).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            writer.write_table(block.to_arrow(compat_level=pl.CompatLevel.oldest()))


def main(arguments: list[str] | None = None) -> None:
    """Write a file of events, in bounded memory."""
    parser = argparse.ArgumentParser(
        prog="python -m topologies.nexmark.generator", description="Write Nexmark events to a file."
    )
    parser.add_argument("file", type=Path, help=f"ends with {', '.join(SUFFIXES)}")
    parser.add_argument("--events", type=_natural, required=True, help="how many")
    parser.add_argument("--seed", type=_natural, required=True, help="the same seed gives the same bytes")
    parser.add_argument("--start", type=_natural, default=START, help="ms since 1970 (default: %(default)s)")
    parser.add_argument(
        "--events-a-second", type=_natural, default=EVENTS_A_SECOND, help="(default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    if not given.file.name.endswith(SUFFIXES):
        parser.error(f"{given.file.name} must end with one of {', '.join(SUFFIXES)}")
    if not given.events_a_second:
        parser.error("--events-a-second must be at least 1")
    write(given.file, _blocks(given.events, given.seed, given.start, given.events_a_second))


def _blocks(count: int, seed: int, start: int, events_a_second: int) -> Iterator[pl.DataFrame]:
    for first in range(0, count, BLOCK):
        yield events(
            min(BLOCK, count - first), seed, start=start, events_a_second=events_a_second, first=first
        )


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    main()
