select
    JSONExtractString(value, 'data', 'store') as store,
    JSONExtractString(value, 'data', 'table') as table_name,
    JSONExtractRaw(value, 'data', 'primary_key') as primary_key,
    source,
    event_id,
    event_time,
    JSONExtractString(value, 'data', 'operation') as operation,
    JSONExtractRaw(value, 'data', 'before') as before,
    JSONExtractRaw(value, 'data', 'after') as after,
    JSONExtractRaw(value, 'data', 'position') as position,
    topic,
    "partition",
    "offset",
    appended_at
{{ one_event_each('isthmus.changes', ['isthmus.data.change']) }}
