select
    subject as component,
    JSONExtractString(value, 'data', 'component_type') as component_type,
    source,
    event_id,
    event_time,
    -- Version 1 had one age and its unit. Such a row landed before the router brought events to the latest version.
    if(
        JSONHas(value, 'data', 'age'),
        map(JSONExtractString(value, 'data', 'age_unit'), JSONExtractFloat(value, 'data', 'age')),
        JSONExtract(value, 'data', 'usage', 'Map(String, Float64)')
    ) as usage,
    JSONExtract(value, 'data', 'readings', 'Map(String, Nullable(Float64))') as readings,
    topic,
    "partition",
    "offset",
    appended_at
{{ one_event_each('isthmus.components', ['isthmus.component.health']) }}
