"""A log for tests of the fold: builds records and applies them to a state."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

from metrics_service.state.batch import OF_FACTS_LANE
from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS, LANE_TELEMETRY

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# On a full hour, so that slots of every ring begin here.
NOW = 1_800_000_000 * SECOND

Fact = event_pb2.BookingFact
Flow = event_pb2.FlowStep


def lane_of(event: event_pb2.Event) -> int:
    """The lane that an event belongs to."""
    return LANE_FACTS if event.WhichOneof("body") in OF_FACTS_LANE else LANE_TELEMETRY


def by_lane(events: Iterable[event_pb2.Event]) -> list[tuple[int, list[event_pb2.Event]]]:
    """Split events into runs of one lane, in their order; one empty run where there are none."""
    runs = [(lane, list(run)) for lane, run in itertools.groupby(events, lane_of)]
    return runs or [(LANE_TELEMETRY, [])]


class Log:
    """Applies records to a state and keeps them. `now_us` is the receive time of the next record,
    `instance` and `epoch` are those of its producer.
    """

    def __init__(self, now_us: int = NOW, seed: int = 0) -> None:
        self.state = State()
        self.records: list[LogRecord] = []
        # Why batches were quarantined.
        self.reasons: list[str] = []
        self.now_us = now_us
        self.instance = "booking-1"
        self.epoch = 0
        self._dice = random.Random(seed)

    def append(self, *events: event_pb2.Event, backfill: bool = False, **fields: Any) -> None:
        """Append a batch, received now; where no lane is given, one for each run of events of one
        lane.
        """
        runs = [(fields.pop("lane"), events)] if "lane" in fields else by_lane(events)
        for lane, run in runs:
            batch = event_pb2.EventList(events=run)
            payload = batch.SerializeToString()
            self.append_payload(payload, len(batch.events), backfill=backfill, lane=lane, **fields)

    def append_payload(
        self,
        payload: bytes,
        count: int,
        *,
        backfill: bool = False,
        producer_id: str = "p",
        lane: int = LANE_TELEMETRY,
    ) -> None:
        """Append a batch of these bytes."""
        self._apply(
            LogRecord(
                len(self.records) + 1,
                self.now_us,
                "batch",
                producer_id=producer_id,
                epoch=self.epoch,
                lane=lane,
                instance=self.instance,
                service="booking_service",
                backfill=backfill,
                payload=payload,
                count=count,
            )
        )

    def tick(self, at_us: int | None = None) -> None:
        """Append a tick per second until at_us."""
        until_us = self.now_us if at_us is None else at_us
        while self.now_us + SECOND < until_us:
            self.now_us += SECOND
            self._apply(LogRecord(len(self.records) + 1, self.now_us, "tick"))
        self.jump(until_us)

    def jump(self, at_us: int) -> None:
        """Append one tick, as after a time in which nothing was written."""
        self.now_us = at_us
        self._apply(LogRecord(len(self.records) + 1, self.now_us, "tick"))

    def unclean_end(self, instance: str = "i", epoch: int = 0) -> None:
        """Append the end of a producer without a Goodbye."""
        position = len(self.records) + 1
        self._apply(LogRecord(position, self.now_us, "unclean_end", instance=instance, epoch=epoch))

    def event_id(self) -> bytes:
        """Return a new id."""
        return self._dice.randbytes(16)

    def view(self, time_us: int, session: str = "s", user: str = "") -> event_pb2.Event:
        """A user viewed a package."""
        viewed = event_pb2.PackageViewed(package_id="p", user_id=user)
        return self._event(time_us, session, package_viewed=viewed)

    def fact(
        self,
        transition: event_pb2.BookingFact.Transition.ValueType,
        time_us: int,
        session: str = "s",
        *,
        booking: str = "b",
        package: str = "p",
        user: str = "",
        hold_us: int = 0,
        complete_us: int = 0,
        confirm_us: int = 0,
        amount: int = 0,
        currency: str = "EUR",
    ) -> event_pb2.Event:
        """One transition of one booking."""
        fact = Fact(
            transition=transition,
            booking_id=booking,
            package_id=package,
            user_id=user,
            hold_time_us=hold_us,
            complete_time_us=complete_us,
            confirm_time_us=confirm_us,
            amount_minor=amount,
            currency=currency,
        )
        return self._event(time_us, session, booking=fact)

    def refund(
        self, time_us: int, amount: int, confirm_us: int, currency: str = "EUR"
    ) -> event_pb2.Event:
        """A refund was completed."""
        return self.payment(
            event_pb2.PaymentFact.REFUNDED, time_us, amount, confirm_us, currency=currency
        )

    def payment(
        self,
        kind: event_pb2.PaymentFact.Kind.ValueType,
        time_us: int,
        amount: int,
        confirm_us: int,
        *,
        currency: str = "EUR",
    ) -> event_pb2.Event:
        """A payment event of booking b."""
        fact = event_pb2.PaymentFact(
            kind=kind,
            booking_id="b",
            amount_minor=amount,
            currency=currency,
            confirm_time_us=confirm_us,
        )
        return self._event(time_us, "", payment=fact)

    def payment_failed(self, time_us: int) -> event_pb2.Event:
        """A payment failed."""
        fact = event_pb2.PaymentFact(kind=event_pb2.PaymentFact.FAILED, failure_code="declined")
        return self._event(time_us, "", payment=fact)

    def flow(
        self,
        step: event_pb2.FlowStep.Step.ValueType,
        time_us: int,
        session: str = "s",
        *,
        booking: str = "",
        user: str = "",
        duration_us: int = 0,
        reason: str = "",
        kind: str = "",
    ) -> event_pb2.Event:
        """A step that a front end reports."""
        flow = Flow(
            step=step,
            booking_id=booking,
            user_id=user,
            duration_us=duration_us,
            reason=reason,
            kind=kind,
        )
        return self._event(time_us, session, flow_step=flow)

    def refused(
        self,
        time_us: int,
        reason: str = "HOLD_EXPIRED",
        kind: str = "booking",
        *,
        counts: bool = True,
        code: int = 9,
        rpc: str = "booking.v1.BookingService/StartBooking",
    ) -> event_pb2.Event:
        """An RPC was refused."""
        refused = event_pb2.RpcRefused(
            rpc=rpc, code=code, reason=reason, kind=kind, counts_as_error=counts
        )
        return self._event(time_us, "", rpc_refused=refused)

    def tally(
        self,
        time_us: int,
        ok: int,
        refused: int = 0,
        *,
        rpc: str = "rpc",
        write: bool = True,
        queries: int = 0,
        most: int = 0,
    ) -> event_pb2.Event:
        """RPCs of one method ended; they ran `queries` queries, `most` is the most of one RPC."""
        entry = event_pb2.RpcTally.Entry(
            rpc=rpc, write=write, ok=ok, refused=refused, queries=queries, queries_max=most
        )
        return self._event(time_us, "", rpc_tally=event_pb2.RpcTally(entries=[entry]))

    def define(self, fingerprint: int, label: str, text: str = "") -> event_pb2.Event:
        """The definition of a fingerprint; label is "model.operation"."""
        model, _, operation = label.rpartition(".")
        definition = event_pb2.QueryDefinition(
            fingerprint=fingerprint, model=model, operation=operation, text=text
        )
        definitions = event_pb2.QueryDefinitions(definitions=[definition])
        return self._event(self.now_us, "", query_definitions=definitions)

    def queries(
        self,
        execute_us: Iterable[int],
        *,
        at_us: int | None = None,
        fingerprint: int = 1,
        outcome: event_pb2.QueryOutcome.ValueType = event_pb2.QUERY_OUTCOME_OK,
        sqlstate: str = "",
        internal: bool = False,
        pool_wait_us: int = 0,
        rows: int = 0,
        step_us: int = 0,
    ) -> event_pb2.Event:
        """Queries of one fingerprint with the same outcome: at at_us, then every step_us."""
        timings = timings_of(
            list(execute_us),
            self.now_us if at_us is None else at_us,
            fingerprint,
            outcome,
            sqlstate,
            internal,
            pool_wait_us,
            rows,
            step_us,
        )
        return self._event(self.now_us, "", query_timings=timings)

    def running(
        self,
        capture_id: int,
        running_us: int,
        *,
        fingerprint: int = 1,
        start_us: int | None = None,
        blockers: Iterable[event_pb2.Blocker] = (),
        **fields: str,
    ) -> event_pb2.Event:
        """An observation, now, of a running query; by default it started running_us ago."""
        running = event_pb2.RunningQuery(
            capture_id=capture_id,
            fingerprint=fingerprint,
            start_time_us=self.now_us - running_us if start_us is None else start_us,
            running_us=running_us,
            pid=4_000 + capture_id % 1_000,
            blockers=blockers,
            **fields,  # type: ignore[arg-type]  # The wait event.
        )
        return self._event(self.now_us, "", running_query=running)

    def ended(
        self,
        capture_id: int,
        execute_us: int,
        outcome: event_pb2.QueryOutcome.ValueType = event_pb2.QUERY_OUTCOME_OK,
    ) -> event_pb2.Event:
        """An observed query ended."""
        event = self.queries([execute_us], outcome=outcome)
        event.query_timings.captures.add(index=0, capture_id=capture_id)
        return event

    def plan(self, fingerprint: int, text: str) -> event_pb2.Event:
        """The generic plan of a fingerprint."""
        plan = event_pb2.QueryPlan(fingerprint=fingerprint, plan=text)
        return self._event(self.now_us, "", query_plan=plan)

    def loss(self, events: int, timings: int) -> event_pb2.Event:
        """The producer dropped telemetry."""
        loss = event_pb2.TelemetryLoss(dropped_events=events, dropped_timings=timings)
        return self._event(self.now_us, "", telemetry_loss=loss)

    def _event(self, time_us: int, session: str, **body: object) -> event_pb2.Event:
        return event_pb2.Event(
            event_id=self.event_id(),
            time_us=time_us,
            session_id=session,
            **body,  # type: ignore[arg-type]  # One of the bodies, by its name.
        )

    def _apply(self, record: LogRecord) -> None:
        self.records.append(record)
        reason = self.state.apply(record)
        if reason:
            self.reasons.append(reason)


def revenue(log: Log, window_us: int | None = None) -> dict[str, metrics_pb2.Revenue]:
    """Return the revenue of a window by currency."""
    return {each.currency: each for each in log.state.metrics(window_us).business.revenue}


def holder(pid: int = 77) -> event_pb2.Blocker:
    """An idle session that holds a lock."""
    return event_pb2.Blocker(
        pid=pid,
        application_name="report",
        state="idle in transaction",
        query="UPDATE t SET a = $1",
        transaction_us=9_500_000,
        wait_event_type="Client",
        wait_event="ClientRead",
    )


def timings_of(
    execute_us: list[int],
    at_us: int,
    fingerprint: int = 1,
    outcome: event_pb2.QueryOutcome.ValueType = event_pb2.QUERY_OUTCOME_OK,
    sqlstate: str = "",
    internal: bool = False,
    pool_wait_us: int = 0,
    rows: int = 0,
    step_us: int = 0,
) -> event_pb2.QueryTimings:
    """Columns of queries with the same outcome."""
    count = len(execute_us)
    return event_pb2.QueryTimings(
        fingerprints=[fingerprint],
        query=[0] * count,
        base_time_us=at_us,
        start_delta_us=[0, *[step_us] * (count - 1)][:count],
        pool_wait_us=[pool_wait_us] * count,
        connect_us=[0] * count,
        cancel_wait_us=[0] * count,
        execute_us=execute_us,
        rows=[rows] * count,
        batch_size=[0] * count,
        outcome=[outcome] * count,
        sqlstate=[1 if sqlstate else 0] * count,
        sqlstates=[sqlstate] if sqlstate else [],
        internal=[internal] * count,
    )
