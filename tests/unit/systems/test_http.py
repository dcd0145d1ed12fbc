"""The HTTP client against a real server that misbehaves on request; time is the test's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest
from yarl import URL

from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.secrets import Secret
from streamcore.systems.http import Answer, HttpClient, HttpLimits, web_address, with_parameters
from streamcore.systems.http_addresses import GuardedResolver, RefusedAddress, refused
from streamcore.systems.http_auth import Authentication, ClientCredentials
from tests.services.rest import RestServer, cut, rest_server, status, waits

LIMITS = HttpLimits(allow_private=True, retries=3)
NOBODY = Authentication()


@pytest.fixture
def server() -> Iterator[RestServer]:
    with rest_server() as running:
        running.rows = [{"id": 1}]
        yield running


class Clock:
    """Sleeps without waiting, and remembers for how long."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, list[float]()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def ask(
    url: str,
    *,
    auth: Authentication = NOBODY,
    limits: HttpLimits = LIMITS,
    clock: Clock | None = None,
    times: int = 1,
    between: Callable[[], None] = lambda: None,
) -> Answer:
    """The last of *times* answers."""
    clock = clock or Clock()

    async def run() -> Answer:
        base = web_address(url)
        client = HttpClient(base, auth, limits, sleep=clock.sleep, clock=clock)
        try:
            for n in range(times):
                if n:
                    between()
                answer = await client.request("GET", base)
            return answer
        finally:
            await client.close()

    return asyncio.run(run())


def test_an_answer_is_taken_with_its_headers_in_small_letters(server: RestServer) -> None:
    answer = ask(f"{server.url}/all")
    assert (answer.status, answer.body) == (200, b'[{"id": 1}]')
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_growing_pauses(server: RestServer, code: int) -> None:
    server.faults.extend([status(code), cut, status(code)])
    clock = Clock()
    assert ask(f"{server.url}/all", clock=clock).status == 200
    assert len(server.asked) == 4
    first, second, third = clock.slept
    assert 0.35 <= first <= 0.65
    assert 0.7 <= second <= 1.3
    assert 1.4 <= third <= 2.6


def test_retry_after_is_waited_for_in_seconds_or_to_a_date(server: RestServer) -> None:
    server.faults.extend(
        [status(429, retry_after="7"), status(503, retry_after=formatdate(time.time() + 30))]
    )
    clock = Clock()
    ask(f"{server.url}/all", clock=clock)
    assert clock.slept[0] == 7
    assert 20 < clock.slept[1] <= 30


def test_a_longer_retry_after_than_allowed_is_an_error_that_says_so(server: RestServer) -> None:
    server.faults.append(status(429, retry_after="3600"))
    with pytest.raises(
        Transient, match=r"429 Too Many Requests.*3600 s of patience: raise longest_wait_seconds"
    ):
        ask(f"{server.url}/all")


def test_after_the_last_retry_the_error_names_the_place_and_what_happened(server: RestServer) -> None:
    server.faults.extend([cut] * 4)
    with pytest.raises(Transient, match=r"127.0.0.1:\d+/all: the answer was cut off, 4 times"):
        ask(f"{server.url}/all")


def test_a_server_that_is_silent_is_an_error_within_its_time(server: RestServer) -> None:
    server.faults.append(waits(server))
    with pytest.raises(Transient, match=r"no whole answer within 0.2 s"):
        ask(f"{server.url}/all", limits=replace(LIMITS, seconds=0.2, retries=0))


class Passing(Clock):
    """Time passes, and sleeping takes none of it."""

    def __call__(self) -> float:
        return time.monotonic() + sum(self.slept)


def test_a_server_that_stays_silent_is_an_error_before_all_retries_are_made(server: RestServer) -> None:
    server.faults.extend([waits(server)] * 20)
    clock = Passing()
    began = clock()
    with pytest.raises(Transient, match=r"no whole answer within 0.\d+ s, [2-5] times.*give_up_seconds="):
        ask(f"{server.url}/all", limits=replace(LIMITS, seconds=0.3, retries=20, give_up=3.0), clock=clock)
    assert clock() - began < 3.0 + 0.5


def test_pauses_that_the_server_asks_for_are_not_counted(server: RestServer) -> None:
    server.faults.extend([status(429, retry_after="50")] * 3)
    clock = Clock()
    assert ask(f"{server.url}/all", limits=replace(LIMITS, seconds=1, give_up=1), clock=clock).status == 200
    assert clock.slept == [50] * 3


def test_nobody_there(server: RestServer) -> None:
    with pytest.raises(Transient, match=r"no connection \(.*refused|no connection"):
        ask("http://127.0.0.1:1/all", limits=replace(LIMITS, retries=0))


@pytest.mark.parametrize(
    ("code", "remedy"), [(400, "see what the API"), (403, "ask for the right"), (404, "path")]
)
def test_a_refusal_is_not_tried_again_and_shows_nothing_of_the_answer(
    server: RestServer, code: int, remedy: str
) -> None:
    server.faults.append(status(code))
    with pytest.raises(Permanent, match=remedy) as caught:
        ask(f"{server.url}/all?token=abc")
    assert len(server.asked) == 1
    assert "s3cret" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_too_large_an_answer_is_not_taken(server: RestServer) -> None:
    server.rows = ["x" * 1000] * 100
    with pytest.raises(Permanent, match=r"too large.*more than 5000 bytes.*page_size"):
        ask(f"{server.url}/all", limits=replace(LIMITS, max_bytes=5000))


def test_requests_keep_the_rate(server: RestServer) -> None:
    clock = Clock()
    ask(f"{server.url}/all", limits=replace(LIMITS, rate=4), clock=clock, times=5)
    assert clock.slept == pytest.approx([0.25] * 4)


# ---------------------------------------------------------------- redirects and addresses


def test_redirects_are_followed_on_the_same_host_only(server: RestServer) -> None:
    server.faults.append(status(302, location="/all?page=2"))
    assert ask(f"{server.url}/by/page").status == 200
    assert server.asked == ["/by/page", "/all?page=2"]
    server.faults.append(status(302, location="http://elsewhere.example/all"))
    with pytest.raises(Permanent, match=r"leads to another host.*elsewhere.example"):
        ask(f"{server.url}/all")
    server.faults.extend([status(302, location="/all")] * 9)
    with pytest.raises(Permanent, match="more than 5 redirects"):
        ask(f"{server.url}/all")


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "100.64.0.1",
    "::1",
    "fe80::1%eth0",
    "::ffff:127.0.0.1",
]


@pytest.mark.parametrize("address", [*PRIVATE, "0.0.0.0", "224.0.0.1"])
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert refused(address)
    assert not refused("93.184.216.34")
    assert not refused("2606:2800:220:1::1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_is_not_asked_unless_that_is_allowed(server: RestServer, host: str) -> None:
    port = URL(server.url).port
    with pytest.raises(Permanent, match=r"this machine or of a private network.*allow_private"):
        ask(f"http://{host}:{port}/all", limits=replace(LIMITS, allow_private=False, retries=0))
    assert not server.asked


async def test_a_name_that_resolves_to_a_private_address_is_refused() -> None:
    with pytest.raises(RefusedAddress):
        await GuardedResolver().resolve("localhost", 80)


# ---------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (Authentication(bearer=Secret("t0ken")), "authorization", "Bearer t0ken"),
        (Authentication(user="me", password=Secret("p:w")), "authorization", "Basic bWU6cDp3"),
        (Authentication(api_key=Secret("k3y")), "x-api-key", "k3y"),
        (Authentication(api_key=Secret("k3y"), key_header="X-Mine"), "x-mine", "k3y"),
    ],
)
def test_credentials_go_with_each_request(
    server: RestServer, auth: Authentication, header: str, value: str
) -> None:
    ask(f"{server.url}/all", auth=auth)
    assert server.headers[0][header] == value
    assert value.split()[-1] not in repr(auth)


def test_an_api_key_as_a_parameter(server: RestServer) -> None:
    auth = Authentication(api_key=Secret("a&b"), key_param="key")
    ask(f"{server.url}/all?x=1", auth=auth)
    assert server.asked == ["/all?x=1&key=a%26b"]
    server.faults.append(status(403))
    with pytest.raises(Permanent) as caught:
        ask(f"{server.url}/all?x=1", auth=auth)
    assert "a%26b" not in str(caught.value)
    assert "a&b" not in str(caught.value)


def oauth(server: RestServer, secret: str = "s3cret") -> Authentication:
    return Authentication(oauth=ClientCredentials(f"{server.url}/token", "me", Secret(secret), "rows:read"))


def test_a_token_is_asked_for_once_and_again_before_it_ends(server: RestServer) -> None:
    clock = Clock()

    def later() -> None:
        clock.now += 3550

    ask(f"{server.url}/all", auth=oauth(server), clock=clock, times=2)
    assert server.tokens == ["token-1"]
    ask(f"{server.url}/all", auth=oauth(server), clock=clock, times=2, between=later)
    assert server.tokens == ["token-1", "token-2", "token-3"]


def test_a_token_that_is_refused_is_replaced_once(server: RestServer) -> None:
    server.allowed = lambda request: request.headers.get("Authorization") == "Bearer token-2"
    assert ask(f"{server.url}/all", auth=oauth(server)).status == 200
    server.allowed = lambda request: False
    with pytest.raises(Permanent, match=r"401 Unauthorized'; check the credentials"):
        ask(f"{server.url}/all", auth=oauth(server))


def test_a_client_without_its_secret(server: RestServer) -> None:
    with pytest.raises(Permanent, match=r"/token: the token server gave no token, got '401 invalid_client'"):
        ask(f"{server.url}/all", auth=oauth(server, "wrong"))


def test_credentials_that_cannot_be_meant() -> None:
    with pytest.raises(BadConfig, match=r"several ways.*bearer_token, api_key"):
        Authentication(bearer=Secret("a"), api_key=Secret("b"))
    with pytest.raises(BadConfig, match="no header can") as caught:
        Authentication(bearer=Secret("sec\nret"))
    assert "sec" not in str(caught.value).replace("secret", "")
    with pytest.raises(BadConfig, match=r"anyone on the way can read the credentials.*https"):
        ask("http://api.example.com/x", auth=Authentication(bearer=Secret("a")), limits=HttpLimits())


def test_nothing_of_a_secret_is_logged(server: RestServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults.append(status(500))
    ask(f"{server.url}/all", auth=oauth(server))
    assert "s3cret" not in caplog.text
    assert "token-1" not in caplog.text


# ---------------------------------------------------------------- addresses as text


@pytest.mark.parametrize("url", ["ftp://host/x", "https://", "host/path", "https://[::1/x"])
def test_what_is_no_web_address(url: str) -> None:
    with pytest.raises(BadConfig, match="not a web address"):
        web_address(url)


def test_parameters_replace_those_of_their_name() -> None:
    url = with_parameters(URL("https://h/p?tag=a&tag=b&page=1"), [("page", "2"), ("x", "a b&c")])
    assert url.raw_query_string == "tag=a&tag=b&page=2&x=a+b%26c"
