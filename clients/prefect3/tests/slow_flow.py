"""A flow to be cancelled."""

import asyncio

from prefect import flow

from prefect_dbrunner import DbrunnerDatabase, cancel_jobs, dbrunner_query_async

SLOW = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000) SELECT max(n) FROM c"


@flow(on_cancellation=[cancel_jobs])
async def slow() -> None:
    shop = await DbrunnerDatabase.aload("shop")
    assert isinstance(shop, DbrunnerDatabase)
    await asyncio.gather(*(dbrunner_query_async(shop, SLOW, key=f"slow-{n}", timeout="10m") for n in range(3)))
