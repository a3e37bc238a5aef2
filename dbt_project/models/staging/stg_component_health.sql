select
    subject as component,
    JSONExtractString(value, 'data', 'component_type') as component_type,
    source,
    event_id,
    event_time,
    JSONExtract(value, 'data', 'age', 'Nullable(Float64)') as age,
    JSONExtractString(value, 'data', 'age_unit') as age_unit,
    JSONExtract(value, 'data', 'readings', 'Map(String, Nullable(Float64))') as readings,
    topic,
    "partition",
    "offset",
    appended_at
{{ one_event_each('isthmus.components', ['isthmus.component.health']) }}
