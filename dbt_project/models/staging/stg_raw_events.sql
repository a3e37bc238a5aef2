-- Landed records as they came, but for those that a verdict holds back until a steward releases them; a repaired
-- record is read with its repaired payload.
with records as (
    select
        topic,
        "partition",
        "offset",
        appended_at,
        key,
        value,
        envelope,
        event_time
    from {{ source('raw', 'events') }} final
    where
        (topic, "partition", generation, "offset") not in (
            select
                topic,
                "partition",
                generation,
                "offset"
            from {{ source('quality', 'held_rows') }}
        )
        and (topic, "partition", generation, "offset") not in (
            select
                topic,
                "partition",
                generation,
                "offset"
            from {{ source('quality', 'repaired_events') }}
        )
    union all
    select
        topic,
        "partition",
        "offset",
        appended_at,
        key,
        value,
        envelope,
        event_time
    from {{ source('quality', 'repaired_events') }} final
)

select
    topic,
    "partition",
    "offset",
    appended_at,
    key,
    value,
    tupleElement(envelope, 'id') as event_id,
    tupleElement(envelope, 'source') as source,
    tupleElement(envelope, 'type') as event_type,
    tupleElement(envelope, 'subject') as subject,
    tupleElement(envelope, 'dataschema') as dataschema,
    tupleElement(envelope, 'traceparent') as traceparent,
    event_time,
    -- The reverse of the predicate of raw.quarantine: what is not shown there is an event.
    coalesce(
        tupleElement(envelope, 'id') != ''
        and tupleElement(envelope, 'source') != ''
        and tupleElement(envelope, 'type') != ''
        and tupleElement(envelope, 'subject') != ''
        and event_time >= toDateTime64('1990-01-01 00:00:00', 6, 'UTC')
        and event_time <= appended_at + interval 1 hour,
        0
    ) as is_well_formed
from records
