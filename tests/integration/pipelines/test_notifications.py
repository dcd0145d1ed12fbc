"""Notifications, against a mail server with STARTTLS and an HTTP server on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from streamcore.errors import BadConfig, Transient
from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.metadata.notices import Notice
from streamcore.metadata.states import PipelineStatus, TaskStatus
from streamcore.pipelines.checks import check
from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.models import NotificationConfig, PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.notifications import notifier as notifying
from streamcore.pipelines.notifications.notifier import Notifier
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from streamcore.secrets import Secret
from streamcore.settings import Notifications, Settings
from tests.guide.blocks import run_block
from tests.integration.pipelines.servers import PASSWORD, USER, Received, http_server, mail_server
from tests.services.tls import certificates

SECOND = 1_000_000


def defaults(monkeypatch: pytest.MonkeyPatch, mail: int) -> Notifications:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    return Notifications(
        server="localhost",
        port=mail,
        user=USER,
        password=Secret("${env:MAIL_PASSWORD}"),
        sender="pipelines@example.com",
        ca_file=str(certificates().ca),
        allow_private=True,
    )


def command(*words: str, **more: Any) -> TaskConfig:
    return TaskConfig(task_id="work", task_type=TaskType.COMMAND, parameters={"command": [*words]}, **more)


async def test_the_guides_notifications(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with mail_server() as mail, http_server() as hooks:
        put = {"https://api.company.com": f"http://127.0.0.1:{hooks.port}"}
        names = run_block("Error Notifications", put)
        named = {"pipeline_id": "nightly", "name": "Nightly delays"}
        bad = names["pipeline_config"].model_copy(update={**named, "tasks": (command("false"),)})
        good = bad.model_copy(update={"tasks": (command("true"),)})
        settings = Settings(notifications=defaults(monkeypatch, mail.port))
        async with PipelineOrchestrator(f"sqlite:///{tmp_path}/m.db", settings=settings) as orchestrator:
            await orchestrator.register_pipeline(bad)
            failed = await orchestrator.trigger_pipeline("nightly", wait=True)
            await mail.until(mails=1)
            await orchestrator.register_pipeline(good)
            done = await orchestrator.trigger_pipeline("nightly", wait=True)
            await hooks.until(posts=1)
        [told], [post] = mail.mails, hooks.posts
    assert told["Subject"] == "Pipeline Failed: Nightly delays"
    assert (told["To"], told["From"]) == ("admin@company.com", "pipelines@example.com")
    text = told.get_content()
    assert failed in text
    assert "the command ended with exit code 1" in text
    said = json.loads(post.body)
    assert post.path == "/pipeline-success"
    assert (said["run_id"], said["status"], said["event"]) == (done, "success", "on_success")
    assert said["id"] == post.headers["webhook-id"] == post.headers["idempotency-key"]


async def test_a_retry_is_told_and_a_server_that_is_away_holds_no_run_up(tmp_path: Path) -> None:
    async with http_server() as hooks:
        slack = {"type": "slack", "url": f"http://127.0.0.1:{hooks.port}/x", "allow_private": True}
        nowhere = {**slack, "type": "webhook", "url": "http://127.0.0.1:9/x"}
        config = PipelineConfig(
            pipeline_id="p",
            tasks=(command("false", retry_count=1, retry_delay=0),),
            notifications={
                "on_retry": NotificationConfig(**slack, text="{task_id}/{attempt} <{status}>"),
                "on_failure": NotificationConfig(**nowhere),
            },
        )
        async with PipelineOrchestrator(f"sqlite:///{tmp_path}/m.db", settings=Settings()) as orchestrator:
            await orchestrator.register_pipeline(config)
            await orchestrator.trigger_pipeline("p", wait=True)
        assert [json.loads(post.body) for post in hooks.posts] == [{"text": "work/1 <retrying>"}]
    store = await open_store(f"sqlite:///{tmp_path}/m.db")
    [waiting] = await store.notices.due(2**60, 10)
    assert (waiting.event, waiting.tries) == ("on_failure", 1), "it is kept for the next orchestrator"
    await store.close()


class Moved:
    """A notifier whose clock is moved, for a pipeline ``p`` that tells one event by *way*."""

    def __init__(self, store: Store, **way: Any) -> None:
        self.store, self.now, self._way = store, 1_000 * SECOND, way
        self.notifier = Notifier(store, "me", 15 * SECOND, lambda: self.now, Notifications())

    async def registered(self, *events: str) -> Moved:
        told = dict.fromkeys(events or ("on_failure",), self._way)
        config = PipelineConfig(pipeline_id="p", tasks=(command("true"),), notifications=told)  # type: ignore[arg-type]
        await self.store.register("p", config.model_dump_json(exclude_defaults=True), 1)
        return self

    async def tell(self, *names: str, event: str = "on_failure") -> None:
        facts = {
            "error": "could not reach postgresql://u:geheim@host/db",
            "pipeline_name": "p",
            "event": event,
        }
        told = [Notice(name, f"run-{name}", "p", 1, event, self.now, facts, self.now) for name in names]
        await self.store.notices.add(told)

    async def tick(self, seconds: float = 0) -> None:
        self.now += round(seconds * SECOND)
        await self.notifier.tick(self.now)


def webhook(hooks: Received, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"http://127.0.0.1:{hooks.port}/h", "allow_private": True, **more}


async def test_repeated_failures_are_one_message_with_a_count(store: Store) -> None:
    async with http_server() as hooks:
        moved = await Moved(store, **webhook(hooks)).registered("on_failure", "on_success")
        await moved.tell("a")
        await moved.tick()
        for name in ("b", "c"):
            await moved.tell(name)
            await moved.tick(60)
        assert [json.loads(post.body)["count"] for post in hooks.posts] == [1]
        await moved.tick(600)
        assert [json.loads(post.body)["count"] for post in hooks.posts] == [1, 2]
        assert json.loads(hooks.posts[1].body)["runs"] == ["run-b", "run-c"]
        assert b"geheim" not in hooks.posts[0].body
        await moved.tell("d", "e", event="on_success")
        await moved.tick()
        assert [json.loads(post.body)["count"] for post in hooks.posts] == [1, 2, 1, 1]


async def test_a_message_is_signed_and_sent_again_with_the_same_key(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = b"0123456789abcdef"
    monkeypatch.setenv("HOOK", "whsec_" + base64.b64encode(key).decode())
    async with http_server() as hooks:
        way = webhook(hooks, secret="${env:HOOK}", headers={"X-Team": "${env:HOOK}"}, data={"a": 1})
        moved = await Moved(store, **way).registered()
        hooks.answers += [503, 400]
        await moved.tell("a")
        await moved.tick()
        await moved.tick(4)
        assert len(hooks.posts) == 1, "it waits for 5 s"
        await moved.tick(2)
        await moved.tell("b")
        await moved.tick(20)
    assert [post.headers["webhook-id"] for post in hooks.posts] == ["a"] * 3
    last = hooks.posts[-1]
    what = f"a.{last.headers['webhook-timestamp']}.".encode() + last.body
    code = base64.b64encode(hmac.new(key, what, hashlib.sha256).digest()).decode()
    assert last.headers["webhook-signature"] == f"v1,{code}"
    assert last.headers["webhook-timestamp"] == str(moved.now // SECOND)
    assert json.loads(last.body)["data"] == {"a": 1}
    assert "could not be sent, again in 5 s" in caplog.text
    assert "whsec_" not in caplog.text


async def test_one_that_died_behind_sending_leaves_the_same_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http_server() as hooks:
        moved = await Moved(store, **webhook(hooks)).registered()
        await moved.tell("a", "b")

        async def die(*args: object) -> None:
            raise Transient("dead")

        with monkeypatch.context() as broken:
            broken.setattr(moved.store.notices, "done", die)
            with pytest.raises(Transient):
                await moved.tick()
        await moved.tell("c")
        await moved.tick(2 * notifying.SEND_SECONDS + 1)
        said = [json.loads(post.body) for post in hooks.posts]
        assert said[0] == said[1]
        assert said[0]["count"] == 2


async def test_what_cannot_be_sent_for_a_day_is_given_up(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    moved = await Moved(
        store, type="webhook", url="https://127.0.0.1:9/geheim", allow_private=True
    ).registered()
    await moved.tell("a")
    await moved.tick()
    await moved.tick(86_401)
    assert "is given up" in caplog.text
    assert await store.notices.due(2**60, 10) == []
    assert "geheim" not in caplog.text, "the path of a webhook may be its secret"


async def test_a_late_run_is_told_while_it_runs_and_once(tmp_path: Path) -> None:
    async with http_server() as hooks:
        config = PipelineConfig(
            pipeline_id="p",
            tasks=(command("sleep", "600"),),
            notifications={"on_sla_miss": NotificationConfig(**webhook(hooks, after="0.5s"))},
        )
        async with PipelineOrchestrator(f"sqlite:///{tmp_path}/m.db", settings=Settings()) as orchestrator:
            await orchestrator.register_pipeline(config)
            run_id = await orchestrator.trigger_pipeline("p")
            await hooks.until(posts=1)
            await orchestrator.cancel(run_id)
            await orchestrator.wait(run_id)
        assert [json.loads(post.body)["status"] for post in hooks.posts] == ["late"]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"type": "e-mail"}, "did you mean 'email'?"),
        ({"type": ""}, "the type of a notification is missing"),
        ({"subject": "{pipeline_nam}"}, "did you mean 'pipeline_name'?"),
        ({"subject": "{error.__class__}"}, "can't be filled in"),
        ({"subject": "{error!r}"}, "can't be filled in"),
        ({"subject": "{"}, "a brace too many"),
        ({"subjekt": "x"}, "did you mean 'subject'?"),
        ({"subject": "${param:x}"}, "a notification can't refer to param:x"),
        ({"recipients": []}, "recipients"),
        ({"recipients": ["a@b\nBcc: c@d"]}, "must be an address"),
        ({"server": None}, "e-mail needs a server"),
        ({"sender": None}, "e-mail needs a sender"),
        ({"user": "u"}, "user and password go together"),
        ({"user": "u", "password": "geheim", "security": "none"}, "can read the password"),
        ({"password": "${env:NOT_SET_AT_ALL}"}, "NOT_SET_AT_ALL is not set"),
        ({"after": "5m"}, "after is for on_sla_miss"),
    ],
)
async def test_what_is_wrong_is_said_at_registration(field: dict[str, Any], said: str) -> None:
    mail = {"type": "email", "recipients": ["a@b.c"], "server": "h", "sender": "a@b.c", **field}
    text = await refusal(mail)
    assert said in text
    assert "notifications.on_failure" in text
    assert "geheim" not in text


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"url": "ftp://x/geheim"}, "not a web address"),
        ({"url": "https://127.0.0.1/geheim"}, "of a private network"),
        ({"url": "http://example.com/geheim"}, "anyone on the way can read it"),
        ({"secret": "whsec_geheim!"}, "must be base64"),
    ],
)
async def test_a_wrong_webhook_is_refused(field: dict[str, Any], said: str) -> None:
    text = await refusal({"type": "webhook", "url": "https://example.com/x", **field})
    assert said in text
    assert "geheim" not in text


async def refusal(way: dict[str, Any]) -> str:
    """What is said when a pipeline with this notification is registered."""
    told = {"on_failure": NotificationConfig(**way)}
    config = PipelineConfig(pipeline_id="p", tasks=(command("true"),), notifications=told)
    async with PipelineOrchestrator("memory:", settings=Settings()) as orchestrator:
        with pytest.raises(BadConfig) as found:
            await orchestrator.register_pipeline(config)
    return str(found.value)


def task(**way: Any) -> PipelineConfig:
    told = TaskConfig(task_id="tell", task_type=TaskType.NOTIFICATION, parameters=way)
    return PipelineConfig(pipeline_id="p", parameters={"who": "you"}, tasks=(told,))


async def test_a_task_sends_one_with_its_effects_name(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    async with http_server() as hooks:
        config = task(**webhook(hooks, data={"for": "${param:who}", "run": "${run:id}"}))
        async with PipelineOrchestrator(store, settings=Settings()) as orchestrator:
            await orchestrator.register_pipeline(config)
            run_id = await orchestrator.trigger_pipeline("p", wait=True)
            view = await orchestrator.get_pipeline_status(run_id)
    assert view is not None
    assert view.tasks["tell"].reason == "sent by webhook"
    [post] = hooks.posts
    said = json.loads(post.body)
    assert said["data"] == {"for": "you", "run": run_id}
    assert (post.headers["webhook-id"], said["task_id"]) == (f"{run_id}/tell", "tell")


@pytest.mark.parametrize(
    "way",
    [
        {"type": "webhook", "url": "${NOBODY:}"},
        {"type": "slack", "url": "${NOBODY:}"},
        {"type": "email", "recipients": ["${NOBODY:}"]},
    ],
)
async def test_a_task_without_an_address_tells_nobody_and_says_so(store: Store, way: dict[str, Any]) -> None:
    async with PipelineOrchestrator(store, settings=Settings()) as orchestrator:
        await orchestrator.register_pipeline(task(**way))
        view = await orchestrator.wait(await orchestrator.trigger_pipeline("p"))
    assert view.status is PipelineStatus.SUCCESS
    told = view.tasks["tell"]
    assert (told.status, told.reason) == (TaskStatus.SKIPPED, "no address is configured: nobody is told")


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"type": "slak", "url": "https://x"}, "did you mean 'slack'?"),
        ({"type": "slack", "url": "https://x", "txet": "x"}, "unknown field 'txet'"),
        ({"type": "slack", "url": "https://x", "text": "{pipeline}"}, "there is no {pipeline}"),
        ({"type": "slack", "url": "https://x", "after": 3}, "a task has no after"),
    ],
)
async def test_a_wrong_task_is_refused_at_registration(way: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig) as found:
        check(task(**way), KINDS)
    assert said in str(found.value)
