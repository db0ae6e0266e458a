"""Mistakes in arguments: what is said, and that it says what to write instead."""

from __future__ import annotations

import pytest

from windlass.main import main

BACKEND = "proxy --backend http://a "


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("prxy", "there is no command 'prxy'; did you mean: windlass proxy"),
        ("frobnicate", "there is no command 'frobnicate'; there are: proxy, sim, demo"),
        ("--verson", "did you mean --version?"),
        ("--backend http://a", "write for example: windlass proxy --backend"),
        ("proxy", "no backend to forward to; write --backend http://HOST:PORT"),
        ("proxy http://a:1", "'http://a:1' stands alone; write --backend http://a:1"),
        ("proxy 8080", "'8080' stands alone; every value follows its option"),
        (
            "proxy 127.0.0.1:9001",
            "stands alone; write --backend http://127.0.0.1:9001, or --listen 127.0.0.1:9001",
        ),
        ("proxy --backend", "--backend needs a value; write --backend URL"),
        ("proxy --backend localhost:9001", "'localhost:9001' has no scheme; write http://localhost:9001"),
        ("proxy --backend 9001", "write http://127.0.0.1:9001"),
        ("proxy --backend u:geheim@a:81/x", "'…@a:81/x' has no scheme; write http://a:81"),
        (
            "proxy --backend http://u:geheim@a:81",
            "'http://…@a:81' has more than scheme, host and port; write http://a:81",
        ),
        ("proxy http://u:geheim@a:81", "write --backend http://…@a:81"),
        ("proxy --backend ftp://a", "'ftp://a' is not a URL like http://127.0.0.1:9001"),
        (
            "proxy --backend http://a:99999",
            "number from 1 to 65535",
        ),
        (
            "proxy --backend http://a/path",
            "'http://a/path' has more than scheme, host and port; write http://a",
        ),
        (BACKEND + "--lisen a:1", "there is no option --lisen; did you mean --listen?"),
        (BACKEND + "--pipelin=3", "there is no option --pipelin; did you mean --pipeline?"),
        (BACKEND + "--zzz", "there is no option --zzz\n"),
        (BACKEND + "--listen 8080", "write 127.0.0.1:8080, or 0.0.0.0:8080 to be reached from outside"),
        (BACKEND + "--listen localhost", "'localhost' has no port; write HOST:PORT"),
        (BACKEND + "--listen a:70000", "write a number from 0 to 65535"),
        (BACKEND + "--listen http://u:geheim@a:1/x?y", "'http://…@a:1/x?y' is a URL; write a:1"),
        (BACKEND + "--client-ca x", "--client-ca without --tls-certificate; give both"),
        (BACKEND + "--backend-key x", "--backend-key without --backend-certificate; give both"),
        (
            BACKEND + "--backend-certificate x",
            "--backend-certificate is for https backends",
        ),
        (BACKEND + "--tls-min 1.1", "'1.1' is not possible; write 1.2 or 1.3"),
        (BACKEND + "--listen http://a:1/", "'http://a:1/' is a URL; write a:1"),
        (BACKEND + "--connections 0", "--connections: '0' is not possible; write a number from 1 to 100000"),
        (BACKEND + "--connections ten", "'ten' is not possible; write a number from 1 to 100000"),
        (BACKEND + "--timeout nan", "'nan' is not possible; write seconds from 0.001 to 86400"),
        (BACKEND + "--timeout soon", "'soon' is not possible; write seconds"),
        (BACKEND + "--trusted 10.1.2.3/8", "'10.1.2.3/8' has bits beyond its mask; write 10.0.0.0/8"),
        (BACKEND + "--trusted home", "'home' is not a network; write one as in 10.0.0.0/8"),
        (BACKEND + "--tls-key x", "--tls-key without --tls-certificate; give both"),
        (BACKEND + "--backend-ca x", "--backend-ca is for https backends, but no backend is https"),
        ("proxy --backend http://127.0.0.1:8080", "the proxy would call itself; change one of them"),
        ("demo --second 3", "did you mean --seconds?"),
        ("demo --rate 1", "write a number from 10 to 5000"),
        ("demo --chart /no/such/folder/a.svg", "there is no such folder"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(arguments.split())
    output = capsys.readouterr()
    assert said in output.err
    assert "geheim" not in output.err
    assert "--help\n" in output.err
    assert (status, output.out) == (2, "")


@pytest.mark.parametrize("arguments", ["", "--help", "-h", "help"])
def test_without_arguments_it_says_what_there_is(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 0
    told = capsys.readouterr().out
    assert "windlass COMMAND" in told
    assert "\n  proxy " in told
    assert "\n  demo " in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("windlass ")


@pytest.mark.parametrize("command", ["proxy", "demo"])
def test_help_tells_every_option_with_its_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "default" in told
    if command == "proxy":
        for words in ("--pipeline N", "(default 10)", "seconds", "SIGTERM", "--access-log [FILE]"):
            assert words in told
