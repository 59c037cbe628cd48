"""What a run showed: sums over the records of all calls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from softphone.load.pacing import Offer
from softphone.load.records import CallRecord, Outcome, Role
from softphone.load.scenario import Expectations

SHARES = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
BINS = 60
"Of the course of a run, at most."


def percentile(values: Sequence[float], share: float) -> float | None:
    """The least value that at least this share of all is not greater than (nearest rank); None: there are none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    found: dict[str, float | int | None] = {"count": len(values), "least": min(values, default=None)}
    found |= {name: percentile(values, share) for name, share in SHARES.items()}
    found["greatest"] = max(values, default=None)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Judgement:
    """One expectation, and what was found."""

    what: str
    wanted: float
    found: float | None
    "None: nothing was there to judge, which is a failure."
    at_least: bool
    "Else at most."

    @property
    def holds(self) -> bool:
        if self.found is None:
            return False
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "wanted": self.wanted, "found": self.found, "at_least": self.at_least,
                "holds": self.holds}  # fmt: skip


@dataclass(slots=True)
class Report:
    """One run; `add` is called for each record, the rest when it is over."""

    scenario: str
    offer: Offer
    processes: int
    expected: Expectations = field(default_factory=Expectations)
    began: str = ""
    "Date and time, ISO 8601."
    seconds: float = 0.0
    interrupted: bool = False
    held_back: int = 0
    troubles: list[str] = field(default_factory=list)
    "Processes or machines that did not do their share."
    records: list[CallRecord] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    "Of callers."
    failures: Counter[str] = field(default_factory=Counter)
    "Calls that were not answered, by status and reason."

    def add(self, record: CallRecord) -> None:
        self.records.append(record)
        if record.role is Role.CALLER:
            self.outcomes[record.outcome] += 1
            if record.outcome is Outcome.REFUSED:
                self.failures[f"{record.status} {record.reason}"] += 1
            elif record.outcome in (Outcome.FAILED, Outcome.TIMEOUT):
                self.failures[record.reason] += 1

    def of(self, role: Role) -> list[CallRecord]:
        return [record for record in self.records if record.role is role]

    @property
    def attempts(self) -> int:
        """Calls whose end was waited for."""
        return self.outcomes.total() - self.outcomes[Outcome.INTERRUPTED]

    @property
    def answer_seizure_ratio(self) -> float | None:
        """Answered calls among all attempts (ITU-T E.411)."""
        return self.outcomes[Outcome.ANSWERED] / self.attempts if self.attempts else None

    @property
    def post_dial_delays(self) -> list[float]:
        return [record.post_dial_delay for record in self.records if record.post_dial_delay is not None]

    def mos(self, *roles: Role) -> list[float]:
        return [record.mos for record in self.records if record.role in roles and record.mos is not None]

    @property
    def loss(self) -> float | None:
        """Share of the packets of all ends that were lost or too late."""
        missing = sum(record.lost + record.late for record in self.records)
        packets = sum(record.received + record.lost for record in self.records)
        return missing / packets if packets else None

    @property
    def digits(self) -> float | None:
        told = [record.digits for record in self.records if record.digits is not None]
        return sum(told) / len(told) if told else None

    def judgements(self) -> list[Judgement]:
        """The expectations of the scenario."""
        wanted = self.expected
        all_of = (
            ("answered", wanted.answered, self.answer_seizure_ratio, True),
            ("post_dial_delay_p95", wanted.post_dial_delay_p95, percentile(self.post_dial_delays, 0.95), False),
            ("mos_p05", wanted.mos_p05, percentile(self.mos(*Role), 0.05), True),
            ("loss", wanted.loss, self.loss, False),
            ("digits", wanted.digits, self.digits, True),
        )
        return [Judgement(what, limit, found, least) for what, limit, found, least in all_of if limit is not None]

    @property
    def ok(self) -> bool:
        return not self.troubles and all(judgement.holds for judgement in self.judgements())

    def over_time(self) -> list[dict[str, float]]:
        """The course of the run in at most `BINS` parts: what began, was answered and failed in each, and how many
        calls there were at once, at most.
        """
        calls = self.of(Role.CALLER)
        end = max((record.ended for record in calls), default=0.0)
        width = max(1.0, math.ceil(end / BINS))
        bins: list[dict[str, float]] = [
            {"at": n * width, "begun": 0, "answered": 0, "failed": 0, "at_once": 0}
            for n in range(math.floor(end / width) + 1 if calls else 0)
        ]
        changes = []
        for record in calls:
            place = bins[int(record.began / width)]
            place["begun"] += 1
            if record.outcome is not Outcome.INTERRUPTED:
                place["answered" if record.outcome is Outcome.ANSWERED else "failed"] += 1
            changes += [(record.began, 1), (record.ended, -1)]
        at_once, place_of_next = 0, 0
        for moment, change in sorted(changes):
            while place_of_next < int(moment / width):  # what goes on through a part counts in it
                place_of_next += 1
                bins[place_of_next]["at_once"] = at_once
            at_once += change
            bins[place_of_next]["at_once"] = max(bins[place_of_next]["at_once"], at_once)
        return bins

    def as_json(self) -> dict[str, Any]:
        loss = self.loss
        return {
            "scenario": self.scenario, "began": self.began, "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted, "processes": self.processes,
            "offer": {
                "rate": self.offer.rate, "concurrent": self.offer.concurrent, "duration": self.offer.duration,
                "calls": self.offer.calls,
            },
            "calls": {
                "begun": self.outcomes.total(), **{str(outcome): self.outcomes[outcome] for outcome in Outcome},
                "dropped": sum(record.dropped for record in self.of(Role.CALLER)), "held_back": self.held_back,
            },
            "answer_seizure_ratio": _rounded(self.answer_seizure_ratio),
            "post_dial_delay": spread(self.post_dial_delays),
            "answer_delay": spread([one.answer_delay for one in self.records if one.answer_delay is not None]),
            "mos": {
                "callers": spread(self.mos(Role.CALLER)), "answerers": spread(self.mos(Role.ANSWERER)),
                "all": spread(self.mos(*Role)),
            },
            "loss": {
                "packets": sum(record.received + record.lost for record in self.records),
                "lost": sum(record.lost for record in self.records),
                "late": sum(record.late for record in self.records), "share": _rounded(loss),
            },
            "digits": _rounded(self.digits),
            "failures": dict(self.failures.most_common()),
            "over_time": self.over_time(),
            "expectations": [judgement.as_json() for judgement in self.judgements()],
            "troubles": self.troubles, "ok": self.ok,
        }  # fmt: skip

    def as_text(self) -> str:
        """For people."""
        return "\n".join(f"{name:<22}{value}" for name, value in self.lines())

    def lines(self) -> Iterable[tuple[str, str]]:
        """Names and values, for people."""
        calls = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()) or "none"
        dropped = sum(record.dropped for record in self.of(Role.CALLER))
        yield "calls", f"{calls} in {self.seconds:.1f} s" + (f"; {dropped} dropped" if dropped else "")
        if self.held_back:
            yield "held back", f"{self.held_back}: no caller was free when they were due"
        ratio, loss = self.answer_seizure_ratio, self.loss
        yield "answer-seizure ratio", "-" if ratio is None else f"{ratio:.2%}"
        delays = self.post_dial_delays
        if delays:
            parts = [f"{name} {1000 * (percentile(delays, SHARES[name]) or 0):.0f}" for name in ("p50", "p95", "p99")]
            yield "post-dial delay", f"{', '.join(parts)} ms"
        for role in Role:
            if heard := self.mos(role):
                parts = [f"{name} {percentile(heard, SHARES[name]):.2f}" for name in ("p05", "p50")]
                yield f"MOS, {role}s", ", ".join(parts)
        if loss is not None:
            yield "lost or late", f"{loss:.3%} of the packets"
        if (digits := self.digits) is not None:
            yield "digits arrived", f"{digits:.2%}"
        for failure, count in self.failures.most_common():
            yield "failures", f"{count} x {failure}"
        for judgement in self.judgements():
            relation = "at least" if judgement.at_least else "at most"
            found = "nothing to judge" if judgement.found is None else f"{judgement.found:.4g}"
            verdict = "holds" if judgement.holds else "FAILS"
            yield "expected", f"{judgement.what} {relation} {judgement.wanted:g}: {found}, {verdict}"
        for trouble in self.troubles:
            yield "trouble", trouble


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
