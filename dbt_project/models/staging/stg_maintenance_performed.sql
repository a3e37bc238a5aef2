select
    subject as component,
    JSONExtractString(value, 'data', 'component_type') as component_type,
    source,
    event_id,
    event_time,
    JSONExtractString(value, 'data', 'work') as work,
    parseDateTime64BestEffortOrNull(JSONExtractString(value, 'data', 'started_at'), 6, 'UTC') as started_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(value, 'data', 'ended_at'), 6, 'UTC') as ended_at,
    JSONExtract(value, 'data', 'planned', 'Nullable(Bool)') as planned,
    JSONExtractRaw(value, 'data') as payload,
    topic,
    "partition",
    "offset",
    appended_at
{{ one_event_each('isthmus.components', ['isthmus.maintenance.performed']) }}
