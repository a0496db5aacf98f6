"""Work that is done for several spans is one span, which links to them and they to it."""

from __future__ import annotations

import pytest

from servicekit.tracing.joint import Waiting, joint_span, waiting
from servicekit.tracing.span import (
    MAX_LINKS,
    Span,
    current_span,
    current_trace_id,
    new_span_id,
    new_trace_id,
    working_for,
)


def rpc(ended: list[Span], *, recorded: bool = True) -> Span:
    """The span of a call."""
    return Span("rpc", new_trace_id(), new_span_id(), recorded=recorded, on_end=ended.append)


def since(*spans: Span, ns: int = 0) -> list[Waiting]:
    return [Waiting(span, span.started_ns + ns) for span in spans]


def test_both_sides_link_to_each_other() -> None:
    ended: list[Span] = []
    spans = [rpc(ended), rpc(ended)]
    with joint_span("group", since(*spans), size=5) as joint:
        assert joint is not None
        assert current_span.get() is joint
        assert current_trace_id.get() == joint.trace_id
    assert current_span.get() is None
    assert ended == [joint]
    assert (joint.name, joint.parent_id, joint.error) == ("group", None, "")
    assert joint.attributes == {"farehold.group.size": 5}
    assert [(link.trace_id, link.span_id) for link in joint.links] == [
        (span.trace_id, span.span_id) for span in spans
    ]
    for span in spans:
        (link,) = span.links
        assert (link.trace_id, link.span_id) == (joint.trace_id, joint.span_id)
        assert link.attributes["farehold.group.size"] == 5


def test_the_wait_is_never_negative() -> None:
    span = rpc([])
    # The clock was set back while it waited.
    with joint_span("group", since(span, ns=10**12), size=1):
        pass
    assert span.links[0].attributes["farehold.queue_wait_us"] == 0


def test_a_span_that_waits_for_many_things_of_one_group_is_linked_once() -> None:
    span = rpc([])
    with joint_span("group", since(span, span, span), size=3) as joint:
        assert joint is not None
    assert (len(joint.links), len(span.links)) == (1, 1)


def test_the_links_of_a_group_are_bounded() -> None:
    spans = [rpc([]) for _ in range(MAX_LINKS + 10)]
    with joint_span("group", since(*spans), size=len(spans)) as joint:
        assert joint is not None
    assert len(joint.links) == MAX_LINKS
    # Those beyond it still name the group.
    assert all(len(span.links) == 1 for span in spans)


def test_a_span_that_has_ended_gets_no_link() -> None:
    gone = rpc([])
    gone.end()
    with joint_span("group", since(gone), size=1) as joint:
        assert joint is not None
    assert gone.links == []


def test_work_that_raises_says_what() -> None:
    ended: list[Span] = []
    with pytest.raises(ValueError, match="secret"), joint_span("group", since(rpc(ended)), size=1):
        raise ValueError("secret text")
    (joint,) = ended
    assert joint.attributes["error.type"] == "ValueError"
    assert "secret" not in str(joint.attributes)


def test_where_nothing_is_recorded_the_first_trace_is_carried_on() -> None:
    ended: list[Span] = []
    first, second = rpc(ended, recorded=False), rpc(ended, recorded=False)
    with joint_span("group", since(first, second), size=2) as joint:
        assert joint is None
        assert current_trace_id.get() == first.trace_id
    assert current_trace_id.get() is None
    assert ended == []


def test_without_a_trace_nothing_is_set() -> None:
    assert waiting() == []
    with joint_span("group", [], size=2) as joint:
        assert joint is None
        assert current_span.get() is None


def test_the_task_s_own_span_waits() -> None:
    span = rpc([])
    with working_for(span):
        (found,) = waiting()
    assert found.span is span
