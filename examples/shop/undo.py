"""How the shop undoes an order: ways, fees, refusals, and a person where nothing else helps.

What belongs here: the course of one compensation. What does not: when it begins (``simulation``).

A charge is captured 45 s after it was made: until then it is voided for next to nothing, later it has to be refunded,
which costs a share of it. Reserved stock cannot be sold while it waits: it is released, or left until its lease ends,
which takes longer and cannot fail. A reservation that took several attempts may have left a lock behind, and its
release mostly fails. The shop does not always do the same, so that what each way and order costs can be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Final

CAPTURE_S: Final = 45.0
TRIES: Final = 4
REVERSE_SHARE: Final = 0.7
"""How often the last step is undone first; else the first one is."""
RELEASE_SHARE: Final = 0.7
"""How often stock is released; else its lease is left to end."""
LEASE_S: Final = 60.0
LOCK: Final = 1.2
"""Hazard of a release where a lock may have been left."""
VOID_FEE: Final = 0.05
REFUND_FEE: Final = 0.35
REFUND_SHARE: Final = 0.03
"""Of the amount, that the provider keeps."""
RESTOCK_FEE: Final = 0.02
"""For each item."""
WAITING_FEE: Final = 0.012
"""For each item and second that it is held longer."""
HAND_S: Final = (120.0, 480.0)
"""A person comes after so long, and takes so much longer at most."""


@dataclass(frozen=True, slots=True)
class Undoing:
    """What is known of an order when it is undone: times are seconds, ``charged`` is None where it was not."""

    items: int
    amount: float
    charged: float | None
    locked: bool
    done: Sequence[int]
    inventory: int
    payment: int


@dataclass(frozen=True, slots=True)
class Undone:
    """One step undone at ``ended``: what is told of it beside."""

    service: int
    ended: float
    seconds: float
    way: str
    planned_way: str
    fee: float
    tries: int
    by_hand: bool
    propensity: float


def undo(
    order: Undoing,
    now: float,
    *,
    takes: Callable[[], float],
    uniform: Callable[[], float],
    hazard: Callable[[int, float], float],
) -> list[Undone]:
    """Undo what was done, from ``now`` on, one after the other.

    ``takes`` draws how long a try takes, ``uniform`` draws everything else, and ``hazard`` is that of an error at a
    service at a time.
    """
    began, found = now, list[Undone]()
    stock_way, chance = ("release", RELEASE_SHARE) if uniform() < RELEASE_SHARE else ("let_expire", 1 - RELEASE_SHARE)
    sequence = list(order.done)[::-1]
    if len(sequence) > 1:
        reverse = uniform() < REVERSE_SHARE
        chance *= REVERSE_SHARE if reverse else 1.0 - REVERSE_SHARE
        sequence = sequence if reverse else sequence[::-1]
    for service in sequence:
        planned = asked = stock_way if service == order.inventory else _payment_way(order, began)
        started, tries, by_hand = now, 1, False
        now += takes()
        while service == order.payment or asked == "release":
            # A void that comes too late is refused: the refund is one more try.
            open_way = asked if service == order.inventory else _payment_way(order, now)
            lock = LOCK if service == order.inventory and order.locked else 0.0
            if open_way == asked and uniform() >= 1.0 - exp(-hazard(service, now) - lock):
                break
            by_hand = tries == TRIES
            now += HAND_S[0] + HAND_S[1] * uniform() if by_hand else 1.5 * 2**tries * (0.5 + uniform())
            asked = asked if service == order.inventory else _payment_way(order, now)
            if by_hand:
                break
            tries += 1
        fee = _fee(order, service, asked, waited=now - began)
        found.append(Undone(service, now, now - started, asked, planned, fee, tries, by_hand, chance))
    return found


def _payment_way(order: Undoing, now: float) -> str:
    assert order.charged is not None, "a payment that is undone was made"
    return "void" if now - order.charged <= CAPTURE_S else "refund"


def _fee(order: Undoing, service: int, way: str, *, waited: float) -> float:
    if service == order.inventory:
        waited += LEASE_S if way == "let_expire" else 0.0
        return round(order.items * (RESTOCK_FEE + WAITING_FEE * min(waited, 600.0)), 4)
    return VOID_FEE if way == "void" else round(REFUND_FEE + REFUND_SHARE * order.amount, 4)
