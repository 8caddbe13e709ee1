"""May this attempt to sign in go on? Positive clearance for every one, before its password is looked at.

The rules (`risk_rules`) see counts of attempts, the network's reputation, browser, place and hour.
High and critical refuse: the lane (the account on its known device, else in its network) is locked, and a
signal tells people. The refusal is the one of a lock, for names that exist and names that do not; nobody
learns which rule spoke, or whether the password was right. Medium goes on and stands in the session.

An assessment that fails is taken for high (CVE-007): refused, the lane locked, a critical signal. A database
that cannot be asked is 503, as everywhere.
"""

from __future__ import annotations

import datetime as dt
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts import lockout
from mestore.lib import errors
from mestore.lib.actor import Actor
from mestore.lib.request import network_of
from monitoring import alerts, audit, events
from monitoring.alerts import Severity
from sessions_security import attempts, places, risk_rules, session_check
from sessions_security.attempts import Begun
from sessions_security.places import Place
from sessions_security.risk_rules import Facts, Journey, Level, Point, Thresholds, Verdict

RISKY = alerts.declare(
    alerts.Rule("signin.risk", _("Risky attempt to sign in"), Severity.HIGH, "risky-sign-in")
)
BROKEN = alerts.declare(
    alerts.Rule(
        "signin.risk_not_assessed",
        _("The risk of a sign-in could not be assessed"),
        Severity.CRITICAL,
        "risk-not-assessed",
    )
)
_SEVERITY = {Level.HIGH: Severity.HIGH, Level.CRITICAL: Severity.CRITICAL}

log = structlog.get_logger("mestore.risk")


class Assessment:
    """One attempt on its way through the door. Called by `login.check_credentials` with name and lane."""

    def __init__(self, *, purpose: str, by: Actor) -> None:
        self._purpose, self._by = purpose, by
        self._device: UUID | None = None
        self._begun: Begun | None = None
        self._was_refused = False
        self._verdict: Verdict | None = None

    def __call__(self, name: str, lane: lockout.Attempt) -> None:
        """Let the attempt go on, or raise lockout.LockedOut or errors.SecurityServiceFailure."""
        self._device = lane.device
        try:
            with session_check.database_guard():
                self._assess(name, lane)
        except errors.MeStoreError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever went wrong: no assessment, no way in
            self._refuse_unassessed(lane, error)

    @property
    def is_cleared(self) -> bool:
        """Whether the attempt was assessed and let go on."""
        return self._verdict is not None and self._verdict.level < Level.HIGH

    @property
    def attempt_id(self) -> UUID | None:
        """The row of the attempt; None before it was counted."""
        return self._begun.id if self._begun is not None else None

    @property
    def was_refused(self) -> bool:
        """Whether the assessment itself refused it, and kept that."""
        return self._was_refused

    @property
    def score(self) -> int:
        """In hundredths of a level."""
        return self._verdict.score if self._verdict is not None else 0

    def was_right(self) -> None:
        """The password was right. Raises errors.SecurityServiceFailure when that cannot be kept."""
        if self._begun is not None:
            with session_check.database_guard():
                attempts.finish(self._begun.id, outcome=attempts.ACCEPTED, score=self.score)

    def was_wrong(self) -> None:
        """The credentials were wrong: the network is thought worse of, unless most of it is right."""
        begun, rules = self._begun, settings.SIGN_IN_RISK
        if begun is None or self._by.address is None or self._device is not None:
            return
        if begun.network_failures < rules["per_good_account"] * begun.good_accounts:
            return
        with session_check.database_guard():
            attempts.blame(self._by.address, rules["reputation_per_wrong"])

    def was_not_asked(self, name: str) -> None:
        """A lock refused before anything was asked, or nothing could be answered."""
        with session_check.database_guard():
            if self._begun is None:
                attempts.note_refused(name, purpose=self._purpose, device=self._device, by=self._by)
            else:
                attempts.finish(self._begun.id, outcome=attempts.REFUSED, score=self.score)

    @property
    def was_begun(self) -> bool:
        """Whether the attempt was counted."""
        return self._begun is not None

    def _assess(self, name: str, lane: lockout.Attempt) -> None:
        place = places.locate(self._by.address)
        self._begun = attempts.begin(
            name, purpose=self._purpose, place=place, device=self._device, by=self._by
        )
        facts = facts_of(
            self._begun, place, is_staff_door=self._purpose != "api", is_known_device=lane.is_known_device
        )
        self._verdict = risk_rules.judge(facts, thresholds())
        if self._verdict.level >= Level.HIGH:
            self._refuse(self._verdict, self._begun, lane)

    def _refuse(self, verdict: Verdict, begun: Begun, lane: lockout.Attempt) -> None:
        self._was_refused = True
        seconds: int = settings.SIGN_IN_RISK["lock_seconds"][verdict.level.name]
        attempts.finish(begun.id, outcome=attempts.REFUSED, score=verdict.score)
        lockout.hold(lane, seconds)
        rules = [finding.rule for finding in verdict.findings]
        audit.record_refusal(
            events.SIGN_IN_RISK_REFUSED, by=self._by, target=("sign_in_attempt", str(begun.id)),
            data={"level": verdict.level.name, "score": verdict.score, "rules": rules,
                  "purpose": self._purpose, "seconds": seconds},
        )  # fmt: skip
        alerts.raise_signal(
            RISKY.code, entity=("network", self._network()), severity=_SEVERITY[verdict.level],
            evidence={"attempt": str(begun.id), "score": verdict.score, "rules": rules,
                      "network_failures": begun.network_failures, "account_failures": begun.account_failures,
                      "reputation": begun.reputation}, using="audit",
        )  # fmt: skip
        raise lockout.LockedOut(retry_after=seconds)

    def _refuse_unassessed(self, lane: lockout.Attempt, error: Exception) -> None:
        seconds: int = settings.SIGN_IN_RISK["lock_seconds"][Level.HIGH.name]
        self._verdict, self._was_refused = None, True
        log.critical("risk_not_assessed", error=type(error).__name__)
        with session_check.database_guard():
            lockout.hold(lane, seconds)
            audit.record_refusal(
                events.SIGN_IN_RISK_REFUSED, by=self._by,
                data={"level": Level.HIGH.name, "rules": ["not_assessed"], "purpose": self._purpose,
                      "seconds": seconds, "error": type(error).__name__},
            )  # fmt: skip
            alerts.raise_signal(
                BROKEN.code, entity=("service", "sign_in_risk"), severity=Severity.CRITICAL,
                evidence={"error": type(error).__name__, "network": self._network()}, using="audit",
            )  # fmt: skip
        raise lockout.LockedOut(retry_after=seconds) from error

    def _network(self) -> str:
        return network_of(self._by.address) if self._by.address else "none"


def facts_of(begun: Begun, place: Place | None, *, is_staff_door: bool, is_known_device: bool) -> Facts:
    """Return what the rules look at."""
    return Facts(
        network_failures=begun.network_failures,
        network_burst=begun.network_burst,
        good_accounts=begun.good_accounts,
        account_failures=begun.account_failures,
        reputation=begun.reputation,
        device_accounts=begun.device_accounts,
        device_networks=begun.device_networks,
        journey=_journey(begun, place),
        is_new_country=_is_new(place, seen=begun.country_seen, any_seen=begun.any_country_seen),
        is_staff_door=is_staff_door,
        local=begun.at.astimezone(ZoneInfo(settings.BUSINESS_TIME_ZONE)),
        is_known_device=is_known_device,
    )


def thresholds() -> Thresholds:
    """Return the setting `SIGN_IN_RISK` as the rules want it."""
    given = settings.SIGN_IN_RISK
    return Thresholds(**{name: given[name] for name in Thresholds.__dataclass_fields__})


def is_new_country(country: str, *, seen: bool, any_seen: bool) -> bool:
    """Say whether an account with a known past comes from a country for the first time."""
    return bool(country) and any_seen and not seen


def _is_new(place: Place | None, *, seen: bool, any_seen: bool) -> bool | None:
    if place is None or not any_seen:
        return None
    return is_new_country(place.country, seen=seen, any_seen=any_seen)


def _journey(begun: Begun, place: Place | None) -> Journey | None:
    if place is None or place.latitude is None or place.longitude is None:
        return None
    if begun.last_point is None or begun.last_at is None:
        return None
    elapsed: dt.timedelta = begun.at - begun.last_at
    return Journey(
        Point(*begun.last_point), Point(place.latitude, place.longitude), elapsed / dt.timedelta(hours=1)
    )
