"""The inventory: a catalogue in MongoDB, and what is left of each item in Redis.

What belongs here: reserving and releasing, once whatever is repeated. What does not: how a call gets here.
"""

from __future__ import annotations

from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from redis.asyncio import Redis

ITEMS: Final = 50
STOCK: Final = 10_000
# 1: reserved now or before, 0: released before, -1: there is not enough.
_RESERVE: Final = """
local before = redis.call('GET', KEYS[2])
if before == 'released' then return 0 end
if before then return 1 end
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then return -1 end
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""
_RELEASE: Final = """
local held = redis.call('GET', KEYS[2])
if held and held ~= 'released' then redis.call('INCRBY', KEYS[1], held) end
redis.call('SET', KEYS[2], 'released')
return 1
"""


class Stock:
    """Inventory: MongoDB has the catalogue, Redis what is left of each item."""

    def __init__(self, redis_url: str, mongo_url: str) -> None:
        self._redis = Redis.from_url(redis_url)
        self._catalogue: AsyncCollection[dict[str, Any]] = AsyncMongoClient(mongo_url).get_default_database("shop")[
            "catalogue"
        ]
        self._reserve = self._redis.register_script(_RESERVE)
        self._release = self._redis.register_script(_RELEASE)

    async def open(self) -> None:
        """Fill the catalogue, and the stock where Redis does not know it."""
        for item in range(ITEMS):
            product = {"_id": item, "name": f"Item {item}", "stock": STOCK}
            await self._catalogue.replace_one({"_id": item}, product, upsert=True)
            await self._redis.set(f"shop:stock:{item}", STOCK, nx=True)

    async def do(self, key: str, order: dict[str, Any]) -> str:
        """Reserve once what the order wants of an item in the catalogue."""
        if await self._catalogue.find_one({"_id": order["item"]}) is None:
            return "UnknownItem"
        said = await self._reserve(keys=self._keys(key, order), args=[order["count"]])
        return {1: "", 0: "Released", -1: "OutOfStock"}[int(said)]

    async def undo(self, key: str, order: dict[str, Any]) -> None:
        """Release what was reserved."""
        await self._release(keys=self._keys(key, order))

    @staticmethod
    def _keys(key: str, order: dict[str, Any]) -> list[str]:
        return [f"shop:stock:{order['item']}", f"shop:reserved:{key}"]
