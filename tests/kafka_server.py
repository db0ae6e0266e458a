"""Real Kafka brokers for tests (KRaft, run by `java` from jars that Maven has gathered), and the mock cluster
that the client library `confluent-kafka` carries inside.

A broker listens on free ports, keeps its files in a temporary folder, and can be stopped in good order,
killed and started again on the same ports. Topics are made through `confluent-kafka`, so that nothing here
rests on what is tested.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.redis_server import unused_port

ROOT = Path(__file__).parent.parent
POM = Path(__file__).parent / "servers" / "kafka" / "pom.xml"
JARS = ROOT / "build" / "kafka-jars"
START_SECONDS_MAX = 60.0
ATTEMPTS = 5
STOP_SECONDS_MAX = 30.0
READS_MAX = 20
USER, PASSWORD = "walter", "corr ect:horse,staple=ü"
JVM = ("-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
LOGGING = """
log4j.rootLogger=WARN, out
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c{1}: %m%n
"""
PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=\
CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,SASL_TLS:SASL_SSL
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
log.dirs={folder}/data
num.partitions=1
default.replication.factor={replicas}
min.insync.replicas=1
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=100
controlled.shutdown.enable=true
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
leader.imbalance.check.interval.seconds=5
replica.lag.time.max.ms=5000
log.cleaner.enable=false
num.network.threads=2
num.io.threads=4
background.threads=2
log.segment.bytes=67108864
"""
SECURED = """
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.{name}.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.{name}.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""
TLS = """
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
"""


def require_kafka() -> Path:
    """The folder of the broker's jars, gathered by Maven the first time; or else a skip (a failure where
    servers are required) that says what is missing."""
    install = "apt-get install default-jre-headless maven"
    for program in ("java", "mvn"):
        if shutil.which(program) is None and not (program == "mvn" and JARS.is_dir()):
            refuse(f"{program} is not installed; to run this test: {install}")
    if not JARS.is_dir() or JARS.stat().st_mtime < POM.stat().st_mtime:
        gather_jars()
    return JARS


def refuse(missing: str) -> None:
    if os.environ.get("WINDLASS_REQUIRE_SERVERS") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def gather_jars() -> None:
    """Into a folder of their own first: several test runs may do so at the same time."""
    JARS.parent.mkdir(exist_ok=True)
    gathered = Path(tempfile.mkdtemp(prefix="kafka-jars-", dir=JARS.parent))
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={gathered}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(gathered)
        refuse(f"Maven cannot gather the broker's jars:\n{done.stdout[-2000:]}")
    shutil.rmtree(JARS, ignore_errors=True)
    try:
        gathered.rename(JARS)
    except OSError:  # another run was faster
        shutil.rmtree(gathered)


class KafkaBroker:
    """One broker (and controller) process."""

    def __init__(self, jars: Path, folder: Path, node: int, *, secured: bool) -> None:
        self.node = node
        self.folder = folder
        names = ("PLAINTEXT", "SASL", "TLS", "SASL_TLS") if secured else ("PLAINTEXT",)
        self.ports = {name: unused_port() for name in names}
        self.controller_port = unused_port()
        self._secured = secured
        self._command = [
            *("java", *JVM, f"-Dlog4j.configuration=file:{folder}/log4j.properties"),
            *("-cp", f"{jars}/*", "kafka.Kafka", f"{folder}/server.properties"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports['PLAINTEXT']}"

    @property
    def running(self) -> bool:
        return self._process is not None

    def prepare(self, voters: str, replicas: int, cluster: str) -> None:
        """Write what it reads at its start: properties, and the storage's identity."""
        data = self.folder / "data"
        data.mkdir(parents=True)
        (self.folder / "log4j.properties").write_text(LOGGING)
        properties = PROPERTIES.format(
            node=self.node,
            voters=voters,
            listeners=",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()),
            controller=self.controller_port,
            folder=self.folder,
            replicas=replicas,
        )
        if self._secured:
            for name in ("sasl", "sasl_tls"):
                properties += SECURED.format(name=name, user=USER, password=PASSWORD)
            properties += TLS.format(folder=self.folder)
            make_certificate(self.folder)
        (self.folder / "server.properties").write_text(
            properties, encoding="latin-1", errors="backslashreplace"
        )
        (data / "meta.properties").write_text(
            f"version=1\ncluster.id={cluster}\nnode.id={self.node}\ndirectory.id=Windlass{self.node}TestsKafkaDir\n"
        )

    def start(self) -> None:
        """Run it; `wait` waits until it serves."""
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Until it has said that it is started."""
        pause = threading.Event()
        for _ in range(int(START_SECONDS_MAX / 0.02)):
            if b"Kafka Server started" in (self.folder / "log").read_bytes():
                return
            assert self._process is not None
            assert self._process.poll() is None, (
                f"the broker ended: {(self.folder / 'log').read_text()[-3000:]}"
            )
            pause.wait(0.02)
        raise AssertionError(f"the broker did not start: {(self.folder / 'log').read_text()[-3000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in good order: its leaders move first, if there are other brokers."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS_MAX)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: it answers nothing, and keeps its connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it was."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, or kill it, and run it again on the same ports."""
        self.stop(number)
        self.start()
        self.wait()


class KafkaCluster:
    """`with KafkaCluster(jars, folder, 3) as cluster:`; `secured` adds SASL (`USER`, `PASSWORD`
    by PLAIN and SCRAM) and TLS listeners (`authority` is the certificate to trust)."""

    def __init__(self, jars: Path, folder: Path, brokers: int = 1, *, secured: bool = False) -> None:
        self.brokers = [
            KafkaBroker(jars, folder / f"broker{node}", node, secured=secured)
            for node in range(1, brokers + 1)
        ]
        self._secured = secured
        self._admin: AdminClient | None = None

    def bootstrap(self, listener: str = "PLAINTEXT") -> str:
        """The addresses, as clients want them."""
        return ",".join(f"127.0.0.1:{broker.ports[listener]}" for broker in self.brokers)

    @property
    def addresses(self) -> list[str]:
        return self.bootstrap().split(",")

    @property
    def port(self) -> int:
        """The first broker's."""
        return self.brokers[0].ports["PLAINTEXT"]

    @property
    def authority(self) -> Path:
        return self.brokers[0].folder / "certificate.pem"

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap(), "log_level": 0})
        return self._admin

    def start(self) -> None:
        voters = ",".join(f"{broker.node}@127.0.0.1:{broker.controller_port}" for broker in self.brokers)
        for broker in self.brokers:
            broker.prepare(voters, len(self.brokers), "WindlassTestsKafkaAAAA")
            broker.start()
        for broker in self.brokers:
            broker.wait()
        if self._secured:
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
                given = UserScramCredentialUpsertion(
                    USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
                )
                for change in self.admin.alter_user_scram_credentials([given]).values():
                    change.result(START_SECONDS_MAX)

    def stop(self) -> None:
        self._admin = None
        for broker in self.brokers:
            broker.kill()

    def create_topic(self, name: str, partitions: int = 1, replicas: int | None = None, **config: Any) -> str:
        """Make a topic and wait until it has leaders; gives its name back."""
        topic = NewTopic(name, partitions, replicas or len(self.brokers), config=config or {})
        create(self.admin, topic)
        return name

    def leader(self, topic: str, partition: int = 0) -> KafkaBroker:
        """Who leads a partition now."""
        node = self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return next(broker for broker in self.brokers if broker.node == node)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class MockKafka:
    """The mock cluster inside `confluent-kafka`: all in memory, with neither ACLs nor SASL, and every topic
    has `PARTITIONS`."""

    PARTITIONS = 4

    def __init__(self, brokers: int = 3) -> None:
        options = {"bootstrap.servers": "mock", "test.mock.num.brokers": brokers, "log_level": 0}
        self._client = confluent_kafka.Producer(options)
        found = self._client.list_topics(timeout=10).brokers.values()
        self.addresses = [f"{broker.host}:{broker.port}" for broker in found]

    def bootstrap(self) -> str:
        """The addresses, as clients want them."""
        return ",".join(self.addresses)

    def create_topic(self, name: str, partitions: int = PARTITIONS, replicas: int | None = None) -> str:
        """Make a topic (asking for it does); gives its name back."""
        found = self._client.list_topics(name, timeout=10).topics[name]
        assert len(found.partitions) == self.PARTITIONS
        return name


def create(admin: AdminClient, topic: NewTopic) -> None:
    for attempt in range(ATTEMPTS):
        try:
            for made in admin.create_topics([topic]).values():
                made.result(START_SECONDS_MAX)
        except KafkaException as error:
            known = error.args[0].code()
            if known == KafkaError.TOPIC_ALREADY_EXISTS and attempt:
                break
            if known != KafkaError._DESTROY_BROKER or attempt == ATTEMPTS - 1:
                raise  # this client drops a request when it learns a broker's address
        else:
            break
    pause = threading.Event()
    for _ in range(int(START_SECONDS_MAX / 0.01)):
        found = admin.list_topics(topic.topic, timeout=10).topics.get(topic.topic)
        leaders = [] if found is None else [part.leader for part in found.partitions.values()]
        if len(leaders) == topic.num_partitions and min(leaders) >= 0:
            return
        pause.wait(0.01)
    raise AssertionError(f"topic {topic.topic} has no leaders")


def make_certificate(folder: Path) -> None:
    """A key and a certificate for 127.0.0.1 and localhost, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        refuse("openssl is not installed; to run this test: apt-get install openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *(
                str(openssl),
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "server.pem").write_text(key.read_text() + certificate.read_text())


def kcat(*arguments: str, data: bytes = b"", seconds: float = 60.0) -> bytes:
    """Run the independent client and return what it wrote."""
    program = shutil.which("kcat") or shutil.which("kafkacat")
    if program is None:
        refuse("kcat is not installed; to run this test: apt-get install kcat")
    done = subprocess.run(
        [str(program), *arguments], input=data, capture_output=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def read_all(
    bootstrap: str, topic: str, form: str = "%s\n", options: Iterable[str] = (), least: int = 0
) -> list[bytes]:
    """What an independent consumer reads in a topic, from beginning to end, as lines of kcat's format.

    A partition's new leader shows the end of its log only once its followers have told that they have it;
    until then a reader finds the end too early. So fewer than `least` lines are read again, for a while.
    """
    settings = [part for option in options for part in ("-X", option)]
    for _ in range(READS_MAX):
        lines = kcat(
            "-b", bootstrap, "-C", "-q", "-e", "-o", "beginning", "-t", topic, "-f", form, *settings
        ).splitlines()
        if len(lines) >= least:
            break
    return lines
