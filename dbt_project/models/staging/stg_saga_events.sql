select * except (version)
from {{ ref('stg_saga_event_log') }} final
-- An event that was taken in before its verdict came.
where (topic, "partition", "offset") not in (
    select
        topic,
        "partition",
        "offset"
    from {{ source('quality', 'held_rows') }}
)
