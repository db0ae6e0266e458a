"""The servers that the other tests use: they can be reached, and do what the tests ask of them."""

from __future__ import annotations

from pathlib import Path

from tests.kafka_server import PASSWORD, USER, KafkaCluster, MockKafka, kcat, read_all


def test_a_topic_is_made_written_and_read(any_kafka: KafkaCluster | MockKafka) -> None:
    topic = any_kafka.create_topic("servers", 2)
    kcat("-b", any_kafka.bootstrap(), "-P", "-t", topic, data=b"one\ntwo\n")
    assert sorted(read_all(any_kafka.bootstrap(), topic)) == [b"one", b"two"]


def test_a_broker_of_three_is_killed_and_comes_back(kafka_cluster: KafkaCluster) -> None:
    topic = kafka_cluster.create_topic("killed", 1)
    leader = kafka_cluster.leader(topic)
    leader.kill()
    try:
        kcat("-b", kafka_cluster.bootstrap(), "-P", "-t", topic, data=b"one\n")
    finally:
        leader.start()
        leader.wait()
    assert read_all(kafka_cluster.bootstrap(), topic, least=1) == [b"one"]


def test_sasl_and_tls(kafka_broker: KafkaCluster, tmp_path: Path) -> None:
    topic = kafka_broker.create_topic("secured")
    who = ("-X", f"sasl.username={USER}", "-X", f"sasl.password={PASSWORD}")
    tls = ("-X", f"ssl.ca.location={kafka_broker.authority}")
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        for listener, protocol in (("SASL", "sasl_plaintext"), ("SASL_TLS", "sasl_ssl")):
            how = ("-X", f"security.protocol={protocol}", "-X", f"sasl.mechanism={mechanism}")
            kcat("-b", kafka_broker.bootstrap(listener), "-P", "-t", topic, *who, *tls, *how, data=b"x\n")
    kcat(
        "-b",
        kafka_broker.bootstrap("TLS"),
        "-P",
        "-t",
        topic,
        *tls,
        "-X",
        "security.protocol=ssl",
        data=b"x\n",
    )
    assert len(read_all(kafka_broker.bootstrap(), topic)) == 7
