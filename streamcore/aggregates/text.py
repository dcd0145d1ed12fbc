"""Aggregate calls: ``name([distinct] argument[, second][, constant …]) [filter (where condition)]``.

sqlglot's tokenizer (DuckDB's dialect, the one whose aggregates we speak: FILTER, ``max(x, n)``,
``list``) finds the calls; quotes, comments and brackets are its business. The pieces are then cut out
of the user's own text, letter by letter, and compiled by :mod:`streamcore.expressions`, so that inside
of an aggregate the same SQL holds as everywhere else. sqlglot's syntax tree is not used: text written
back from it is not what the user wrote (``x ~ 'a'`` changes its function), and it carries no positions
for some calls (``max``, ``any_value``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import Token, TokenType
from sqlglot.errors import SqlglotError
from sqlglot.parser import Parser

from streamcore.errors import BadConfig

_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_NAMES = Parser.FUNC_TOKENS - {TokenType.STRING, TokenType.IDENTIFIER}


@dataclass(frozen=True)
class Call:
    """One aggregate call: ``text`` as written, ``argument`` None for ``*``, ``where`` of its FILTER.

    ``second`` is an argument after the first that is no number.
    """

    text: str
    function: str
    argument: str | None
    distinct: bool = False
    constants: tuple[int | float, ...] = ()
    where: str | None = None
    second: str | None = None


@dataclass(frozen=True)
class Outer:
    """What is left of a text: each call replaced by the quoted name that ``calls`` gives it.

    ``functions`` are the names of the functions called outside of the aggregates.
    """

    text: str
    calls: dict[str, Call]
    functions: tuple[str, ...]


def take_apart(text: str, known: Collection[str], taken: Collection[str]) -> Outer:
    """Find the calls of the aggregates *known* (lower case) in *text*; *taken* are names not to use.

    A call is named by its own text, so that messages about the rest can be read.
    BadConfig when the text can't be split, or for nested aggregates and window functions.
    """
    tokens = _tokens(text)
    calls: dict[str, Call] = {}
    functions, pieces, done, at = [], [], 0, 0
    while at < len(tokens):
        if not _is_call(tokens, at):
            at += 1
        elif tokens[at].text.lower() not in known:
            functions.append(tokens[at].text.lower())
            at += 2
        else:
            call, after = _call(text, tokens, at, known)
            name = call.text
            while name in taken:
                name += " "
            calls[name] = call
            quoted = '"' + name.replace('"', '""') + '"'
            pieces += [text[done : tokens[at].start], quoted]
            done, at = tokens[after - 1].end + 1, after
    return Outer("".join([*pieces, text[done:]]), calls, tuple(functions))


def _tokens(text: str) -> list[Token]:
    try:
        return sqlglot.tokenize(text, read="duckdb")
    except SqlglotError as error:
        raise BadConfig(f"cannot parse the SQL expression {text!r}: an open quote or comment") from error


def _is_call(tokens: Sequence[Token], at: int) -> bool:
    """Whether a function's name and its bracket stand at *at*."""
    return (
        at + 1 < len(tokens)
        and tokens[at].token_type in _NAMES
        and tokens[at + 1].token_type == TokenType.L_PAREN
    )


def _call(text: str, tokens: Sequence[Token], at: int, known: Collection[str]) -> tuple[Call, int]:
    """The call that starts at *at*, and the place of the first token after it."""
    close = _closing(text, tokens, at + 1)
    after, where = close + 1, None
    if _word(tokens, after) == "filter" and _is_call(tokens, after):
        end = _closing(text, tokens, after + 1)
        if _word(tokens, after + 2) != "where":
            raise BadConfig(f"FILTER without WHERE in {text!r}", fix="write filter (where condition)")
        where, after = text[tokens[after + 2].end + 1 : tokens[end].start].strip(), end + 1
    whole = text[tokens[at].start : tokens[after - 1].end + 1]
    if _word(tokens, after) == "over":
        raise BadConfig(f"{text!r} has a window function (OVER)", fix="the step's own window groups the rows")
    for inner in range(at + 1, after):
        if _is_call(tokens, inner) and tokens[inner].text.lower() in known:
            raise BadConfig(f"an aggregate inside of another in {whole!r}", got=tokens[inner].text.lower())
    distinct = tokens[at + 2].token_type == TokenType.DISTINCT
    argument, *rest = _arguments(text, tokens, at + 2 if distinct else at + 1, close)
    if not argument:
        raise BadConfig(f"an aggregate without an argument in {whole!r}", fix="name a column")
    second = rest.pop(0) if rest and _number(rest[0]) is None else None
    constants = tuple(_constant(constant, whole) for constant in rest)
    star = None if argument == "*" else argument
    return Call(whole, tokens[at].text.lower(), star, distinct, constants, where, second), after


def _closing(text: str, tokens: Sequence[Token], opening: int) -> int:
    """The place of the bracket that closes the one at *opening*."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += tokens[at].token_type in _OPENING
        depth -= tokens[at].token_type in _CLOSING
        if not depth:
            return at
    raise BadConfig(f"cannot parse the SQL expression {text!r}: an open bracket")


def _arguments(text: str, tokens: Sequence[Token], before: int, close: int) -> Iterator[str]:
    """The texts between the commas from after token *before* up to token *close*."""
    start, depth = tokens[before].end + 1, 0
    for token in tokens[before + 1 : close]:
        depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
        if token.token_type == TokenType.COMMA and not depth:
            yield text[start : token.start].strip()
            start = token.end + 1
    yield text[start : tokens[close].start].strip()


def _word(tokens: Sequence[Token], at: int) -> str | None:
    return tokens[at].text.lower() if at < len(tokens) else None


def _constant(text: str, call: str) -> int | float:
    number = _number(text)
    if number is None:
        raise BadConfig(f"the last arguments must be numbers in {call!r}", got=text)
    return number


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
