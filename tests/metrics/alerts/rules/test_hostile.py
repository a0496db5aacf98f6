"""A rule file that is made to take long, or to break who reads it, is refused at once."""

from __future__ import annotations

import time

import pytest

from metrics_service.alerts.rules.load import check, shipped

PATH = ".".join(f"a{number}" for number in range(49))
HOSTILE = {
    "nested arrays": "a = " + "[" * 60_000,
    "a long dotted key": "a." * 30_000 + "b = 1",
    "a long quoted key": '"a".' * 15_000 + "b = 1",
    "a long key in a table": "x = {" + "a." * 30_000 + "b = 1}",
    "a long header": "[" + "a." * 30_000 + "b]",
    "many deep keys": "\n".join(f"{PATH}.k{number} = 1" for number in range(330)),
    "many deep headers": "\n".join(f"[{PATH}{number}]" for number in range(330)),
    "many rules": "[[rule]]\n" * 7_000,
    "quotes": '"' * 60_000,
    "escapes": '"\\' * 30_000,
    "folded lines": 'a = """' + "\\\n" * 30_000 + '"""',
    "many digits": "a = " + "1" * 60_000,
    "many hexadecimal digits": "a = 0x" + "f" * 60_000,
    "a line that is no float": shipped().decode().replace("above = 10", "above = 0x" + "f" * 999),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_with_a_short_reason_and_little_cpu(text: str) -> None:
    begun_s = time.process_time()
    for _ in range(20):
        check(shipped())
    shipped_s = time.process_time() - begun_s
    begun_s = time.process_time()
    checked = check(text.encode())
    assert time.process_time() - begun_s < max(10 * shipped_s, 0.1)
    assert not checked.accepted
    assert all(len(finding.message) < 500 for finding in checked.findings)


def test_dots_in_texts_and_comments_are_no_keys() -> None:
    text = shipped().decode()
    dotted = text.replace('title = "', 'title = "' + "a." * 60, 1)
    assert check(f"# {'.' * 200}\n{dotted}".encode()).accepted
