"""Messages between machines: mailboxes with their overflow policies, channels with pushback."""

from __future__ import annotations

import msgspec
import pytest
from structlog.testing import capture_logs

from actors import (
    UNCHANGED,
    Channel,
    ChannelClosed,
    Loop,
    Machine,
    MachineStopped,
    Mailbox,
    MailboxFull,
    Misuse,
    Reply,
)
from actors.testing import Driver, FakeTransport, ManualKernel


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


class Question(msgspec.Struct):
    text: str
    reply: Reply


class Owner(Machine[Mailbox]):
    def __init__(self, read, **options):
        self.read, self.options, self.got, self.rounds = read, options, [], 0

    def start(self, scope):
        self.scope = scope
        self.mailbox = Mailbox(scope, **self.options)
        return UNCHANGED

    def wakeup(self, scope):
        self.rounds += 1
        self.read(self)
        return UNCHANGED

    def handle(self, scope):
        return self.mailbox


def drain(owner):
    owner.got += owner.mailbox.drain()


def one(owner):
    owner.got.append(owner.mailbox.receive())


def leave(owner):
    pass


def first_of_drain(owner):
    for message in owner.mailbox.drain():
        owner.got.append(message)
        break


@pytest.mark.parametrize(("read", "rounds"), [(drain, 1), (one, 5), (first_of_drain, 5)])
def test_every_message_is_read_however_the_owner_reads(loop, read, rounds):
    owner = Owner(read)
    mailbox = loop.spawn(owner)
    for number in range(5):
        mailbox.send(number)
    assert len(mailbox) == 5
    loop.tick(0)
    assert owner.got == [0, 1, 2, 3, 4]
    assert owner.rounds == rounds
    assert mailbox.receive() is None
    assert list(mailbox.drain()) == []


def test_messages_that_come_while_draining_wake_again(loop):
    def read(owner):
        for message in owner.mailbox.drain():
            owner.got.append(message)
            if message == "first":
                owner.mailbox.send("second")

    owner = Owner(read)
    loop.spawn(owner).send("first")
    loop.tick(0)
    assert owner.got == ["first", "second"]
    assert owner.rounds == 2


def test_draining_and_receiving_at_once(loop):
    def read(owner):
        for message in owner.mailbox.drain():
            owner.got += [message, owner.mailbox.receive(), owner.mailbox.receive()]

    owner = Owner(read)
    mailbox = loop.spawn(owner)
    for number in range(3):
        mailbox.send(number)
    loop.tick(0)
    assert owner.got == [0, 1, 2]


def test_reject(loop):
    mailbox = loop.spawn(Owner(leave, capacity=2))
    mailbox.send(1)
    mailbox.send(2)
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(MailboxFull, match="Owner holds 2 messages"):
                mailbox.send(3)
    assert [log["event"] for log in logs] == ["mailbox full"]
    statistics = mailbox.statistics()
    assert (statistics.waiting, statistics.sent, statistics.rejected, statistics.dropped) == (2, 2, 3, 0)
    assert repr(mailbox) == "<Mailbox 2/2 waiting, reject>"


def test_drop_oldest_makes_a_dead_letter_and_answers_its_question(loop):
    owner = Owner(leave, capacity=2, overflow="drop_oldest")
    mailbox = loop.spawn(owner)
    with capture_logs():
        dropped = mailbox.ask(Question, "lost")
        for text in ("a", "b", "c"):
            mailbox.send(text)
    assert isinstance(dropped.error, MailboxFull)
    assert list(mailbox.drain()) == ["b", "c"]
    assert [type(letter.message) for letter in loop.dead_letters] == [Question, str]
    assert loop.dead_letters[1].token == owner.scope.token
    assert mailbox.statistics().dropped == loop.statistics().dead_letters == 2


def test_wrong_options_say_what_to_write(loop):
    with pytest.raises(ValueError, match="write 1 or more"):
        loop.spawn(Owner(leave, capacity=0))
    with pytest.raises(ValueError, match="'reject' or 'drop_oldest'"):
        loop.spawn(Owner(leave, overflow="drop_newest"))


def test_to_a_stopped_machine_everything_is_a_dead_letter(loop):
    owner = Owner(leave)
    mailbox = loop.spawn(owner)
    unread = mailbox.ask(Question, "unread")
    with capture_logs() as logs:
        loop.kill(owner.scope.token, ValueError("the reason"))
        mailbox.send("late")
    assert isinstance(unread.error, MachineStopped)
    assert "the reason" in str(unread.error)
    assert isinstance(mailbox.ask(Question, "late").error, MachineStopped)
    assert [getattr(letter.message, "text", letter.message) for letter in loop.dead_letters] == [
        "unread",
        "late",
    ]
    assert len(logs) == 2
    assert repr(mailbox) == "<Mailbox closed 0/1024 waiting, reject>"


def test_questions_are_answered_also_when_their_owner_crashes(loop):
    def crash(owner):
        next(iter(owner.mailbox.drain())).reply.settle("answered")
        raise ValueError("a bug")

    mailbox = loop.spawn(Owner(crash))
    answered, unanswered = mailbox.ask(Question, "one"), mailbox.ask(Question, "two")
    assert mailbox.statistics().unanswered == 2
    with capture_logs():
        loop.tick(0)
    assert answered.result() == "answered"
    assert isinstance(unanswered.error, MachineStopped)


def test_answered_questions_are_not_kept(loop):
    owner = Owner(lambda owner: [message.reply.settle(message.text) for message in owner.mailbox.drain()])
    mailbox = loop.spawn(owner)
    for number in range(500):
        reply = mailbox.ask(Question, number)
        loop.tick(0)
        assert reply.result() == number
    assert len(mailbox._asked) <= 65


def test_a_full_mailbox_refuses_a_question(loop):
    mailbox = loop.spawn(Owner(leave, capacity=1))
    mailbox.send("first")
    with capture_logs(), pytest.raises(MailboxFull):
        mailbox.ask(Question, "second")
    assert mailbox.statistics().unanswered == 0


# -- channels ----------------------------------------------------------------------------------------------


def test_put_and_take():
    channel = Channel(2)
    assert not channel.readable
    with pytest.raises(Misuse, match="empty channel"):
        channel.take()
    channel.put("a")
    channel.put("b")
    assert (len(channel), channel.writable) == (2, False)
    assert repr(channel) == "<Channel 2 items, weight 2/2>"
    with pytest.raises(Misuse, match="full channel"):
        channel.put("c")
    channel.close()
    channel.close(ValueError())
    assert channel.writable
    with pytest.raises(ChannelClosed):
        channel.put("d")
    assert not channel.ended
    assert [channel.take(), channel.take()] == ["a", "b"]
    assert channel.ended
    with pytest.raises(ChannelClosed):
        channel.take()
    statistics = channel.statistics()
    assert (statistics.items, statistics.sent, statistics.closed) == (0, 2, True)
    with pytest.raises(ValueError, match="write 1 or more"):
        Channel(0)


def test_weighed_items_may_exceed_the_capacity_by_the_one_that_filled_it(loop):
    sender, receiver = FakeTransport(loop).scope, FakeTransport(loop).scope
    channel = Channel(10, weigh=len)
    channel.attach_sender(sender)
    channel.attach_receiver(receiver)
    channel.put(b"x" * 9)
    assert receiver.woken
    channel.put(b"y" * 9)
    assert channel.weight == 18
    channel.take()
    assert sender.woken
    sender.woken = False
    channel.take()
    assert not sender.woken


def test_an_error_overtakes_what_is_in_the_channel():
    channel = Channel()
    channel.put(1)
    channel.close(ValueError("broken"))
    assert channel.ended
    assert isinstance(channel.error, ValueError)
    with pytest.raises(ValueError, match="broken"):
        channel.take()


@pytest.mark.parametrize("closed_before", [False, True])
def test_a_receiver_that_goes_away_drops_what_is_there(loop, closed_before):
    sender = FakeTransport(loop).scope
    channel = Channel(1)
    channel.attach_sender(sender)
    channel.put("unread")
    if closed_before:
        channel.close()
    channel.cancel()
    assert (len(channel), channel.weight) == (0, 0)
    assert sender.woken
    with pytest.raises(ChannelClosed):
        channel.put("more")


def test_flows_wait_both_ways(loop):
    channel, got = Channel(2), []

    async def send():
        for number in range(20):
            await channel.send(number)
        channel.close()

    async def receive():
        got.append(await channel.receive())
        got.extend([item async for item in channel])

    loop.spawn(send())
    loop.spawn(receive())
    loop.tick(0)
    assert got == list(range(20))
    assert loop.machines == 0


def test_a_flow_gets_the_senders_error_and_one_that_is_killed_waits_no_longer(loop):
    channel = Channel()

    async def iterate():
        async for _ in channel:
            pass

    async def stuck(full):
        await full.send(2)

    iterating = loop.spawn(iterate())
    killed = loop.spawn(iterate())
    full = Channel(1)
    full.put(1)
    sending = loop.spawn(stuck(full))
    loop.tick(0)
    assert "an item from <Channel" in repr(loop.machine(1))
    assert "room in <Channel" in repr(loop.machine(3))
    loop.kill(3)
    loop.kill(2)
    assert killed.settled
    assert sending.settled
    full.take()
    iterating.when_settled(lambda reply: None)
    channel.close(ValueError("gone"))
    loop.tick(0)
    assert isinstance(iterating.error, ValueError)


def test_a_driven_machine_with_a_mailbox_can_be_cloned():
    driver = Driver(Owner(drain))
    driver.handle.send("before")
    copied = driver.clone()
    copied.machine.mailbox.send("copy only")
    assert copied.settle().machine.got == ["before", "copy only"]
    assert driver.settle().machine.got == ["before"]
