"""Past compensations read from a real warehouse, and what a policy says of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from assets.decisions.compensation import compensation_section, read_sagas
from resources.warehouse import WarehouseResource

BEGIN = datetime(2026, 5, 4, 8, tzinfo=UTC)


def rows(number: int, payment: dict[str, Any], stock: dict[str, Any] | str) -> list[dict[str, Any]]:
    """One order that was charged, could not be confirmed, and was undone after 20 s."""
    saga, begin = f"undone-{number}", BEGIN + timedelta(minutes=number)
    text = stock if isinstance(stock, str) else json.dumps(stock)
    told = [
        ("isthmus.saga.started", "", "", "", 0, {"amount": 20.0}),
        ("isthmus.saga.step", "reserve_stock", "inventory", "completed", 1, {}),
        ("isthmus.saga.step", "charge_payment", "payment", "completed", 2, {}),
        ("isthmus.saga.step", "send_confirmation", "notification", "failed", 20, {}),
        ("isthmus.saga.step", "charge_payment", "payment", "compensated", 21, {"attributes": json.dumps(payment)}),
        ("isthmus.saga.step", "reserve_stock", "inventory", "compensated", 22, {"attributes": text}),
    ]
    return [
        {
            "saga_type": "order", "saga_id": saga, "source": "/test", "event_id": f"{saga}/{at}", "event_type": kind,
            "event_time": begin + timedelta(seconds=second), "step": step, "participant": participant, "attempt": 1,
            "status": status, "duration_ms": 500.0, "load": 1.0, "attributes": "{}", "topic": "isthmus.sagas",
            "partition": 0, "offset": 1_000_000 + number * 10 + at, "appended_at": begin, **more,
        }
        for at, (kind, step, participant, status, second, more) in enumerate(told)
    ]  # fmt: skip


def test_a_policy_learns_from_what_was_undone(shop_tables: WarehouseResource) -> None:
    assert compensation_section(shop_tables, "order") is None, "nothing was undone yet"
    ways = ({"way": "void", "fee": 0.05}, {"way": "let_expire", "fee": 0.5, "tries": 1, "propensity": 0.3})
    written = [row for number in range(30) for row in rows(number, *ways)]
    # Nobody says how its stock was undone, and there are two ways.
    written += rows(30, {}, "no json") + rows(31, {}, '["no object"]')
    shop_tables.insert_rows("staging.stg_saga_events", written)
    sagas = list(read_sagas(shop_tables, "order"))
    assert [len(saga) for saga in sagas] == [6] * 32
    assert [told.event.status for told in sagas[0]][-3:] == ["failed", "compensated", "compensated"]
    section = compensation_section(shop_tables, "order")
    assert section is not None
    assert (section["past"], section["left_out"]) == (30, {"the way is not told": 2})
    (situation,) = section["situations"]
    assert situation["ways"] == {"reserve_stock": ["release", "let_expire"], "charge_payment": ["void"]}
    assert situation["plan"][0] == {"step": "charge_payment", "way": "void"}
    assert "support is missing" in section["gain"]["problems"][0], "the default was never taken"
    assert len(list(read_sagas(shop_tables, "order", newest=5))) == 5
