with records as (
    select
        *,
        {{ saga_data() }} as data
    from {{ ref('stg_raw_events') }}
    where
        topic = '{{ var("saga_topic") }}'
        and is_well_formed
)

select
    topic,
    "partition",
    "offset",
    appended_at,
    event_type,
    source,
    event_id,
    {{ saga_fault() }} as reason,
    left(value, 2000) as payload_head
from records
where reason != ''
