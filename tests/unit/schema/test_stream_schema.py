"""A model as columns: types, names, what is required, and what is asked of pydantic."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated, Any, Literal

import polars as pl
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NaiveDatetime,
    PastDate,
    StrictInt,
    field_validator,
    model_validator,
)

from streamcore.errors import BadConfig
from streamcore.schema import Event, Refusal, StreamSchema, type_named


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(BaseModel):
    x: int
    y: float | None = None


class Everything(Event):
    i: int
    f: float
    s: str
    b: bool
    t: dt.datetime
    nt: NaiveDatetime
    d: dt.date
    h: dt.time
    m: Decimal
    m2: Decimal = Field(max_digits=10, decimal_places=2)
    y: bytes
    lit: Literal["a", "b"]
    c: Colour
    lv: Level
    li: list[int]
    ls: list[Point | None]
    p: Point
    o: int | None
    strict: StrictInt
    default: int = 3
    named: str = Field(alias="A name")


def test_types_of_fields() -> None:
    point = pl.Struct({"x": pl.Int64, "y": pl.Float64})
    assert StreamSchema.of(Everything).columns == pl.Schema(
        {
            "i": pl.Int64,
            "f": pl.Float64,
            "s": pl.String,
            "b": pl.Boolean,
            "t": pl.Datetime("us", "UTC"),
            "nt": pl.Datetime("us"),
            "d": pl.Date,
            "h": pl.Time,
            "m": pl.Decimal(38, 9),
            "m2": pl.Decimal(10, 2),
            "y": pl.Binary,
            "lit": pl.String,
            "c": pl.String,
            "lv": pl.Int64,
            "li": pl.List(pl.Int64),
            "ls": pl.List(point),
            "p": point,
            "o": pl.Int64,
            "strict": pl.Int64,
            "default": pl.Int64,
            "named": pl.String,
        }
    )


def test_required_and_aliases() -> None:
    schema = StreamSchema.of(Everything)
    assert set(schema.columns) - schema.required == {"o", "default"}
    assert schema.aliases == {"A name": "named"}


@pytest.mark.parametrize("kind", [Any, object, dict[str, int], tuple[int, int], int | str, set[int], complex])
def test_other_types_name_the_field_and_what_is_allowed(kind: Any) -> None:
    model = type(
        "Bad",
        (Event,),
        {"__annotations__": {"wrong": kind}, "model_config": ConfigDict(arbitrary_types_allowed=True)},
    )
    with pytest.raises(BadConfig, match=r"field 'wrong' of Bad .*allowed: int, float, str"):
        StreamSchema.of(model)


def test_a_model_within_itself_is_refused() -> None:
    class Tree(Event):
        children: list[Tree]

    with pytest.raises(BadConfig, match="contains itself"):
        StreamSchema.of(Tree)


@pytest.mark.parametrize("name", ["_offset", "_sub", "_op"])
def test_hidden_names_are_taken(name: str) -> None:
    with pytest.raises(BadConfig, match="taken by streamcore"):
        StreamSchema.from_columns({name: "int64"})


def test_type_names() -> None:
    assert type_named("int64") == pl.Int64
    assert type_named(" Integer ") == pl.Int64
    assert type_named("datetime") == pl.Datetime("us", "UTC")
    with pytest.raises(BadConfig, match="did you mean 'float64'"):
        type_named("flot64")


def test_required_of_columns_must_exist() -> None:
    with pytest.raises(BadConfig, match="'b'"):
        StreamSchema.from_columns({"a": "int64"}, required=frozenset({"b"}))


def python_needed(**fields: Any) -> bool:
    body = {"__annotations__": {n: f for n, f in fields.items() if n != "model_config"}}
    if "model_config" in fields:
        body["model_config"] = fields["model_config"]
    return StreamSchema.of(type("Model", (Event,), body)).judge.needs_python


class Checked(Event):
    a: int

    @field_validator("a")
    @classmethod
    def odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("even")
        return value


class Compared(Event):
    a: int
    b: int

    @model_validator(mode="after")
    def ordered(self) -> Compared:
        if self.a > self.b:
            raise ValueError("a > b")
        return self


class Outer(Event):
    inner: list[Checked]


class Initialised(Event):
    a: int

    def model_post_init(self, context: Any) -> None:
        if self.a == 0:
            raise ValueError("zero")


@pytest.mark.parametrize("model", [Checked, Compared, Outer, Initialised])
def test_python_validators_are_found(model: type[Event]) -> None:
    assert StreamSchema.of(model).judge.needs_python


@pytest.mark.parametrize(
    "field",
    [
        Annotated[str, AfterValidator(str.lower)],
        Annotated[float, Field(multiple_of=0.1)],
        Annotated[str, Field(pattern=r"(?<=a)b")],
        PastDate,
        AwareDatetime,
        Annotated[dt.datetime, Field(gt=dt.datetime(2020, 1, 1))],
        Annotated[int, Field(lt=2**70)],
    ],
)
def test_what_no_column_can_tell_needs_python(field: Any) -> None:
    config = ConfigDict(regex_engine="python-re", populate_by_name=True)
    assert python_needed(model_config=config, a=field)


@pytest.mark.parametrize(
    "config",
    [
        ConfigDict(extra="forbid"),
        ConfigDict(str_strip_whitespace=True),
        ConfigDict(str_to_lower=True),
        ConfigDict(str_max_length=3),
    ],
)
def test_settings_that_no_column_can_tell_need_python(config: ConfigDict) -> None:
    assert python_needed(model_config=config, a=str)


def test_plain_constraints_need_no_python() -> None:
    assert not StreamSchema.of(Everything).judge.needs_python


CONSTRAINTS: list[tuple[Any, list[object], list[object]]] = [
    (Annotated[int, Field(gt=1, le=5)], [2, 5], [1, 6, None]),
    (Annotated[int, Field(ge=1, lt=5)], [1, 4], [0, 5]),
    (Annotated[int, Field(multiple_of=3)], [-3, 0, 6], [1, -1]),
    (Annotated[float, Field(gt=0)], [0.1, float("inf")], [0.0, float("nan")]),
    (Annotated[float, Field(allow_inf_nan=False)], [0.0], [float("nan"), float("-inf")]),
    (Annotated[str, Field(min_length=2, max_length=3)], ["éé", "😀😀😀"], ["é", "abcd"]),
    (Annotated[str, Field(pattern=r"^[A-Z]{3}$")], ["ABC"], ["ABCD", "abc", "ABC\n", ""]),
    (Annotated[bytes, Field(max_length=2)], [b"ab"], [b"abc"]),
    (Annotated[dt.date, Field(ge=dt.date(2020, 1, 1))], [dt.date(2020, 1, 1)], [dt.date(2019, 12, 31)]),
    (Annotated[Decimal, Field(gt=1, decimal_places=1)], [Decimal("1.1")], [Decimal("1.0")]),
    (Literal["a", "b"], ["a"], ["c", ""]),
    (Literal[1, 2], [1], [3]),
    (Colour, ["red"], ["RED"]),
    (Annotated[list[int], Field(min_length=1, max_length=2)], [[1]], [[], [1, 2, 3]]),
    (list[Annotated[int, Field(gt=0)]], [[], [1, 2]], [[1, 0], [None]]),
    (Annotated[int, Field(gt=1)] | None, [None, 2], [1]),
]


@pytest.mark.parametrize(("field", "good", "bad"), CONSTRAINTS, ids=[str(c[0])[:40] for c in CONSTRAINTS])
def test_a_constraint_doubts_exactly_what_pydantic_refuses(
    field: Any, good: list[object], bad: list[object]
) -> None:
    schema = StreamSchema.of(type("Model", (Event,), {"__annotations__": {"a": field}}))
    assert not schema.judge.needs_python
    frame = pl.DataFrame({"a": pl.Series([*good, *bad], dtype=schema.columns["a"], strict=False)})
    assert schema.judge.in_doubt(frame).tolist() == [False] * len(good) + [True] * len(bad)
    for value in good:
        assert not isinstance(schema.parse({"a": value}), Refusal)
    for value in bad:
        assert isinstance(schema.parse({"a": value}), Refusal)


def test_a_nested_constraint_is_doubted_where_it_is() -> None:
    class Inner(BaseModel):
        x: int = Field(gt=0)
        s: str | None = Field(None, max_length=1)

    class Model(Event):
        p: Inner | None
        ps: list[Inner]

    judge = StreamSchema.of(Model).judge
    rows = [
        {"p": {"x": 1, "s": "a"}, "ps": []},
        {"p": None, "ps": [{"x": 1, "s": None}]},
        {"p": {"x": 0, "s": None}, "ps": []},
        {"p": {"x": None, "s": None}, "ps": []},
        {"p": None, "ps": [{"x": 1, "s": None}, {"x": 1, "s": "ab"}]},
        {"p": None, "ps": [None]},
    ]
    frame = pl.DataFrame(rows, schema=StreamSchema.of(Model).columns)
    assert judge.in_doubt(frame).tolist() == [False, False, True, True, True, True]


def test_parse_gives_column_values() -> None:
    class Model(Event):
        t: dt.datetime
        c: Colour
        p: Point
        n: int = Field(validation_alias=AliasChoices("N", "number"))
        o: int | None

    values = StreamSchema.of(Model).parse(
        {"t": "2020-01-01T00:00:00+02:00", "c": "red", "p": {"x": "1"}, "number": 2.0}
    )
    assert values == {
        "t": dt.datetime(2019, 12, 31, 22, tzinfo=dt.timezone.utc),
        "c": "red",
        "p": {"x": 1, "y": None},
        "n": 2,
        "o": None,
    }


def test_refusals_name_fields_but_no_content() -> None:
    class Forbidding(Event):
        model_config = ConfigDict(extra="forbid")
        a: int
        b: Literal["x"]

    refusal = StreamSchema.of(Forbidding).parse({"a": "s3cret", "b": "s3cret", "s3cret": "s3cret"})
    assert isinstance(refusal, Refusal)
    assert refusal.code == "schema"
    assert "s3cret" not in refusal.message
    assert refusal.message.startswith("a: Input should be a valid integer")


def test_values_beyond_their_column_are_refused() -> None:
    class Model(Event):
        i: int = 0
        m: Decimal = Decimal(0)
        t: dt.datetime = dt.datetime(2020, 1, 1)

    schema = StreamSchema.of(Model)
    for row in ({"i": 2**63}, {"m": "1.1234567891"}, {"m": "1e30"}, {"t": "9999-12-31T23:59:59-01:00"}):
        refusal = schema.parse(row)
        assert refusal == Refusal("schema", f"{next(iter(row))}: the value does not fit the column's type")
    assert schema.parse({"m": "1.100000000000"}) == {**schema.parse({}), "m": Decimal("1.1")}


def test_an_exception_of_a_validator_is_the_rows_refusal() -> None:
    class Model(Event):
        a: int

        @field_validator("a")
        @classmethod
        def broken(cls, value: int) -> int:
            raise KeyError("s3cret")

    assert StreamSchema.of(Model).parse({"a": 1}) == Refusal("schema", "KeyError raised by a validator")


def test_a_type_that_does_not_exist_is_named() -> None:
    wrong = type("Wrong", (Event,), {"__annotations__": {"a": "Nope"}})
    with pytest.raises(
        BadConfig, match=r"Wrong uses a type that does not exist, got 'Nope'.*before the first"
    ):
        StreamSchema.of(wrong)
