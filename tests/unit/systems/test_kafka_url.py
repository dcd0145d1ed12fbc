"""Kafka addresses: what they mean, what is refused, and that no message shows the password."""

from __future__ import annotations

import ssl

import pytest
from aiokafka import errors as kafka

from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.systems.kafka import KafkaConnection, translate

PASSWORD = "p@ss:w/rd?"
QUOTED = "p%40ss%3Aw%2Frd%3F"


def test_a_plain_address_with_several_brokers_and_a_default_port():
    connection = KafkaConnection.parse("kafka://one,two:9093/")
    assert connection.servers == ("one:9092", "two:9093")
    assert connection.client_options() == {
        "bootstrap_servers": ["one:9092", "two:9093"],
        "security_protocol": "PLAINTEXT",
    }


def test_ipv6_brokers():
    assert KafkaConnection.parse("kafka://[::1]:9093,[::2]").servers == ("[::1]:9093", "[::2]:9092")


def test_a_user_means_tls_and_scram_unless_said_otherwise():
    options = KafkaConnection.parse(f"kafka://al%69ce:{QUOTED}@h:1").client_options()
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("alice", PASSWORD)


def test_certificates_and_names_are_always_checked():
    context = KafkaConnection.parse("kafka://h?security=SSL").ssl_context()
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("h:9092", "not a Kafka address"),
        ("http://h:9092", "not a Kafka address, got 'http'"),
        ("kafka://", "names no broker"),
        ("kafka://h:x", "not a broker address, got 'h:x'"),
        (f"kafka://u:{QUOTED}@h?securty=SSL", "unknown option securty.*did you mean 'security'"),
        (f"kafka://u:{QUOTED}@h?security=TLS", "unknown security protocol, got 'TLS'"),
        (f"kafka://u:{QUOTED}@h?mechanism=MD5", "unknown SASL mechanism, got 'MD5'"),
        (f"kafka://u:{QUOTED}@h?security=PLAINTEXT", "PLAINTEXT and a user name don't go together"),
        ("kafka://h?security=SASL_SSL", "SASL_SSL and a user name don't go together"),
    ],
)
def test_wrong_addresses_are_refused_without_showing_the_password(url, message):
    with pytest.raises(BadConfig, match=message) as caught:
        KafkaConnection.parse(url)
    assert QUOTED not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_connection_never_shows_its_password():
    connection = KafkaConnection.parse(f"kafka://alice:{QUOTED}@h:1")
    assert str(connection) == "kafka://alice:***@h:1"
    assert PASSWORD not in repr(connection)
    assert QUOTED not in repr(connection)


def test_missing_tls_files_are_named():
    with pytest.raises(BadConfig, match=r"TLS files can't be read.*/no/such.pem"):
        KafkaConnection.parse("kafka://h?security=SSL&ca_file=/no/such.pem").ssl_context()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka.MessageSizeTooLargeError(), Permanent),
        (kafka.TopicAuthorizationFailedError(), Permanent),
        (kafka.SaslAuthenticationFailed(), Permanent),
        (kafka.KafkaConnectionError(), Transient),
        (kafka.OutOfOrderSequenceNumber(), Transient),
        (kafka.KafkaTimeoutError(), Transient),
        (kafka.NotEnoughReplicasError(), Transient),
    ],
)
def test_errors_say_what_the_caller_must_do(error, kind):
    translated = translate(error, "topic-1")
    assert type(translated) is kind
    assert str(translated).startswith("topic-1: ")


def test_our_own_errors_pass_as_they_are():
    error = Permanent("no")
    assert translate(error, "t") is error
