"""A site of the test's own, asked over a real connection."""

import http.client
import time
from collections.abc import Iterator

import pytest

from harness.errors import InputError
from harness.wire.site import Answer, Corrupt, Site, Slow, Status, Truncated

_BODY = b"0123456789" * 10_000


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.serve({"/file": _BODY, "/teapot": Answer(418, b"short and stout", {"X-Lid": "on"})}) as served:
        yield served


def ask(site: Site, path: str, method: str = "GET") -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    try:
        connection.request(method, path)
        said = connection.getresponse()
        return said.status, said.read(), said.headers
    finally:
        connection.close()


def test_a_path_has_its_answer(site: Site) -> None:
    assert ask(site, "/file")[:2] == (200, _BODY)
    status, body, headers = ask(site, "/teapot")
    assert (status, body, headers["X-Lid"]) == (418, b"short and stout", "on")
    assert ask(site, "/other")[0] == 404
    status, body, headers = ask(site, "/file", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "100000")
    assert site.asked == ["GET /file", "GET /teapot", "GET /other", "HEAD /file"]


def test_what_it_has_not_is_asked_of_the_site_behind(site: Site) -> None:
    with Site.serve({"/own": b"own"}) as front:
        assert ask(front, "/file")[0] == 404
        assert front.before(site.port) == front.port
        assert ask(front, "/file")[:2] == (200, _BODY)
        assert ask(front, "/own")[:2] == (200, b"own")
        assert ask(front, "/file", "HEAD")[2]["Content-Length"] == "100000"
    assert site.asked == ["GET /file", "HEAD /file"]


def test_a_site_behind_that_is_gone_is_a_bad_gateway(site: Site) -> None:
    with Site.serve() as gone:
        port = gone.port
    site.before(port)
    assert ask(site, "/other")[0] == 502


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_status_comes_in_place_of_the_body_until_it_recovers(site: Site, status: int) -> None:
    site.trouble(Status(status), "^/file")
    said, body, headers = ask(site, "/file")
    assert (said, body, "WWW-Authenticate" in headers) == (status, b"", status == 401)
    assert ask(site, "/teapot")[0] == 418
    site.recover()
    assert ask(site, "/file")[0] == 200


def test_a_body_is_cut_short(site: Site) -> None:
    site.trouble(Truncated())
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(site, "/file")
    assert cut.value.partial == _BODY[:50_000]


def test_a_body_is_corrupt_in_one_bit(site: Site) -> None:
    site.trouble(Corrupt())
    _, body, _ = ask(site, "/file")
    assert [at for at in range(len(_BODY)) if body[at] != _BODY[at]] == [50_000]


def test_a_body_is_slow(site: Site) -> None:
    site.trouble(Slow(500_000))
    began = time.monotonic()
    assert ask(site, "/file")[1] == _BODY
    assert 0.15 < time.monotonic() - began < 2


def test_who_speaks_tls_is_hung_up_on(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    connection.connect()
    connection.sock.sendall(b"\x16\x03\x01\x00\x10" + bytes(16))
    assert connection.sock.recv(1) == b""
    connection.close()


def test_what_cannot_be_is_refused(site: Site) -> None:
    for wrong in (lambda: Status(99), lambda: Slow(0), lambda: site.trouble(Truncated(), "(")):
        with pytest.raises(InputError):
            wrong()
