"""The tables of metadata, as numbered steps. A step that has been released is never changed: add another one.

A step is applied in one transaction and noted in ``streamcore_migrations``. ``{serial}`` is a number that
the database counts up.
"""

from __future__ import annotations

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """create table streamcore_pipelines (
            pipeline_id text not null, version bigint not null, digest text not null, config text not null,
            registered_us bigint not null, primary key (pipeline_id, version))""",
        """create table streamcore_runs (
            run_id text primary key, pipeline_id text not null, version bigint not null, status text not null,
            created_us bigint not null, started_us bigint, ended_us bigint, scheduled_us bigint,
            parameters text not null, priority bigint not null, reason text not null, owner text,
            epoch bigint not null, changes bigint not null, lease_until_us bigint, cancel_us bigint)""",
        "create index streamcore_runs_by_age on streamcore_runs (created_us, run_id)",
        "create index streamcore_runs_of_pipeline on streamcore_runs (pipeline_id, created_us)",
        """create index streamcore_runs_to_do on streamcore_runs (priority, created_us)
            where status in ('queued', 'running')""",
        """create table streamcore_tasks (
            run_id text not null, task_id text not null, place bigint not null, status text not null,
            attempts bigint not null, failures bigint not null, lost bigint not null, started_us bigint,
            ended_us bigint, due_us bigint, row_count bigint, byte_count bigint, reason text not null,
            datasets text not null, primary key (run_id, task_id))""",
        """create table streamcore_attempts (
            run_id text not null, task_id text not null, attempt bigint not null, status text not null,
            started_us bigint not null, ended_us bigint, row_count bigint, byte_count bigint,
            error text not null, log text not null, primary key (run_id, task_id, attempt))""",
        """create table streamcore_events (
            event_id {serial}, run_id text not null, at_us bigint not null, kind text not null, task_id text,
            data text not null, published_us bigint)""",
        "create index streamcore_events_of_run on streamcore_events (run_id, event_id)",
        """create index streamcore_events_to_publish on streamcore_events (event_id)
            where published_us is null""",
        """create table streamcore_firings (
            pipeline_id text not null, scheduled_us bigint not null, run_id text not null,
            created_us bigint not null, primary key (pipeline_id, scheduled_us))""",
        """create table streamcore_leases (
            name text primary key, owner text not null, until_us bigint not null)""",
    ),
    (
        """create table streamcore_schedules (
            pipeline_id text primary key, position_us bigint, paused_us bigint)""",
    ),
    (
        """create table streamcore_backfills (
            backfill_id text primary key, pipeline_id text not null, status text not null,
            created_us bigint not null, ended_us bigint, from_us bigint not null, to_us bigint not null,
            parallel bigint not null, reprocess text not null, parameters text not null,
            started bigint not null)""",
        """create table streamcore_backfill_firings (
            backfill_id text not null, place bigint not null, scheduled_us bigint not null,
            status text not null, run_id text, primary key (backfill_id, place))""",
    ),
    (
        """create table streamcore_notices (
            notice_id text primary key, run_id text not null, pipeline_id text not null,
            version bigint not null, event text not null, at_us bigint not null, facts text not null,
            due_us bigint not null, tries bigint not null, lead text, done_us bigint, error text not null)""",
        "create index streamcore_notices_due on streamcore_notices (due_us) where done_us is null",
        "create index streamcore_notices_of_message on streamcore_notices (lead)",
        "create index streamcore_notices_last on streamcore_notices (pipeline_id, event, done_us)",
    ),
    ("create table streamcore_identity (one bigint primary key, store_id text not null)",),
    (
        """create table streamcore_measurements (
            measurement_id {serial}, dataset text not null, at_us bigint not null, level text not null,
            row_count bigint not null, refused bigint not null, run_id text, found text not null)""",
        "create index streamcore_measurements_last on streamcore_measurements (dataset, measurement_id)",
        "create unique index streamcore_measurements_of_runs on streamcore_measurements (dataset, run_id)",
        """create table streamcore_baselines (
            dataset text primary key, profile text not null, kept_us bigint not null)""",
    ),
)
