"""Private names of Faust and aiokafka that transports and runtime use, with the versions they were read in.

Both are pinned in pyproject.toml. ``tests/unit/transport/test_pinned_names.py`` fails when an upgrade
takes one away; :mod:`.kafka_chunks` then falls back to aiokafka's public ``getmany`` by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

VERSIONS: Mapping[str, str] = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

OVERRIDDEN: Mapping[str, tuple[str, ...]] = {
    "faust.transport.consumer:Consumer": (
        "_add_gap", "_commit_offsets", "_filter_tps_with_pending_acks", "_getmany", "_is_changelog_tp",
        "_new_offset", "_new_topicpartition", "_to_message", "ack", "assignment", "getmany", "highwaters",
        "commit_and_end_transactions", "earliest_offsets", "highwater", "on_buffer_drop",
        "on_partitions_revoked", "perform_seek", "resume_flow", "resume_partitions", "seek_wait",
    ),
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread": (
        "_commit", "_create_worker_consumer", "_ensure_consumer", "_fetch_records", "_seek_wait",
        "call_thread", "on_partitions_assigned", "on_partitions_revoked", "seek",
    ),
    "faust.app.base:App": ("_on_agent_error",),
    "faust.transport.drivers.aiokafka:Consumer": ("_new_consumer_thread",),
    "aiokafka.producer.message_accumulator:BatchBuilder": (
        "_build", "_set_producer_state", "closed", "record_count", "size",
    ),
}  # fmt: skip
"""Methods that are overridden or called: class -> names."""

READ: Mapping[str, tuple[str, ...]] = {
    "faust.transport.consumer:Consumer": (
        "_acked", "_acked_index", "_buffered_partitions", "_committed_offset", "_read_offset",
        "can_resume_flow", "flow_active", "scheduler",
    ),
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread": ("_assignor", "tp_last_committed_at"),
    "aiokafka.consumer.consumer:AIOKafkaConsumer": ("_client", "_coordinator", "_fetcher"),
    "aiokafka.consumer.group_coordinator:GroupCoordinator": ("generation", "fetch_committed_offsets"),
    "aiokafka.consumer.fetcher:Fetcher": (
        "_client", "_max_partition_fetch_bytes", "_proc_fetch_request", "_records",
    ),
    "aiokafka.consumer.fetcher:FetchResult": ("_partition_records",),
    "aiokafka.consumer.fetcher:PartitionRecords": ("_consumer_record", "_records", "next_fetch_offset"),
    "aiokafka.producer.message_accumulator:BatchBuilder": ("_closed",),
    "aiokafka.producer.message_accumulator:MessageAccumulator": ("_batches",),
    "aiokafka.producer.message_accumulator:MessageBatch": ("_drain_waiter",),
    "aiokafka.producer.producer:AIOKafkaProducer": (
        "_closed", "_message_accumulator", "_sender", "_txn_manager",
    ),
    "aiokafka.producer.transaction_manager:TransactionManager": ("_transaction_waiter",),
    "aiokafka.admin.client:AIOKafkaAdminClient": ("_client",),
    "aiokafka.conn:AIOKafkaConnection": ("_do_sasl_handshake",),
}  # fmt: skip
"""Attributes that are read or set: class -> names."""
