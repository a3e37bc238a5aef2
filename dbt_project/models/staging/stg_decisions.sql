select
    JSONExtractString(value, 'data', 'decision_id') as decision_id,
    event_type,
    JSONExtractString(value, 'data', 'kind') as kind,
    subject,
    JSONExtractString(value, 'data', 'status') as status,
    source,
    event_id,
    event_time,
    JSONExtractRaw(value, 'data') as payload,
    topic,
    "partition",
    "offset",
    appended_at
{{ one_event_each('isthmus.decisions', ['isthmus.decision', 'isthmus.action']) }}
